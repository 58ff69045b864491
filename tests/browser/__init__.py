"""Render the dashboards in a browser: SPL over real events, a stand-in of Splunk, the page."""
