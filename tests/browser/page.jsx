// Show one of the app's views as Splunk does: the shipped file, the theme it names, and the
// values that the address gives its inputs (?form.client=192.0.2.1). Splunk's packages are CommonJS:
// a package.json of "type": "module" would change what their default imports mean.
import { createRoot } from 'react-dom/client';
import { DashboardContextProvider } from '@splunk/dashboard-context';
import { DashboardCore } from '@splunk/dashboard-core';
import { DashboardValidator } from '@splunk/dashboard-validation';
import { createSchemaBasedOnPresets } from '@splunk/dashboard-definition';
import { migrateToTabsLayout } from '@splunk/dashboard-utils';
import EnterpriseViewOnlyPreset from '@splunk/dashboard-presets/EnterpriseViewOnlyPreset';
import { SplunkThemeProvider } from '@splunk/themes';

function tokensOf(address) {
  const tokens = {};
  for (const [name, value] of address.searchParams) {
    if (name.startsWith('form.')) tokens[name.slice(5)] = value;
  }
  return tokens;
}

function complaintsOf(definition) {
  const validator = new DashboardValidator();
  validator.setSchema(createSchemaBasedOnPresets(EnterpriseViewOnlyPreset));
  const copy = JSON.parse(JSON.stringify(definition));
  return validator.validate(migrateToTabsLayout({ definition: copy }).definition) || [];
}

const address = new URL(window.location.href);
const view = address.pathname.split('/').pop();
const reply = await fetch(`/views/${view}.xml`);
if (!reply.ok) throw new Error(`there is no view ${view}`);
const dashboard = new DOMParser().parseFromString(await reply.text(), 'text/xml').documentElement;
const definition = JSON.parse(dashboard.querySelector('definition').textContent);
const theme = address.searchParams.get('theme') || dashboard.getAttribute('theme');

document.title = dashboard.querySelector('label').textContent;
document.body.style.background = theme === 'dark' ? '#171d21' : '#f2f4f5';
window.complaints = complaintsOf(definition);

createRoot(document.getElementById('root')).render(
  <SplunkThemeProvider family="enterprise" colorScheme={theme} density="compact">
    <DashboardContextProvider
      preset={EnterpriseViewOnlyPreset}
      initialDefinition={definition}
      initialTokenBinding={{ default: tokensOf(address) }}
      initialMode="view"
    >
      <DashboardCore width="100%" height="auto" />
    </DashboardContextProvider>
  </SplunkThemeProvider>,
);
