"""The names of syslog's facilities and severities, numbered by their place."""

#: RFC 5424 section 6.2.1, table 1.
FACILITIES = (
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
)  # fmt: skip
#: RFC 5424 section 6.2.1, table 2.
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
