// Walk through dashboards in Chromium: `node drive.mjs FOLDER < plan.json > reports.json`.
//
// FOLDER holds node_modules/playwright-core. A plan is {chromium, profile, steps}; a step opens an
// address ({open, screenshot?}) or clicks in the page before it ({click: {panel, text}}, without text
// on a single value). Each step gives a report once every panel has come to rest.
import { createRequire } from 'node:module';
import fs from 'node:fs';
import path from 'node:path';

const { chromium } = createRequire(`${path.resolve(process.argv[2])}/`)('playwright-core');
const plan = JSON.parse(fs.readFileSync(0, 'utf8'));
const browser = await chromium.launchPersistentContext(plan.profile, {
  executablePath: plan.chromium,
  headless: true,
  viewport: { width: 1280, height: 900 },
  timezoneId: 'UTC',
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
  ],
});
const page = browser.pages()[0];
let errors = [];
page.on('pageerror', (error) => errors.push(error.message));
page.on('response', (reply) => {
  if (reply.status() >= 400) errors.push(`${reply.status()} ${reply.url()}`);
});

// Runs in the page: what each panel shows.
function panelsOf() {
  const visible = (mark) => {
    const box = mark.getBoundingClientRect();
    return box.width > 1 && box.height > 1;
  };
  return [...document.querySelectorAll('[data-test="viz-item"]')].map((panel) => {
    const text = (name) => panel.querySelector(`[data-test="${name}"]`)?.textContent ?? '';
    const marks = '.highcharts-point, .highcharts-graph, .highcharts-area';
    const shown = {
      value: text('majorValue'),
      rows: [...panel.querySelectorAll('[data-test="body"] [data-test="row"]')].map((row) =>
        [...row.querySelectorAll('[data-test="cell"]')].map((cell) => cell.textContent)),
      marks: [...panel.querySelectorAll(marks)].filter(visible).length,
      empty: panel.textContent.includes('No search results returned'),
    };
    return {
      id: panel.dataset.id,
      title: text('viz-title'),
      text: panel.innerText,
      atRest: Boolean(shown.value || shown.rows.length || shown.marks || shown.empty),
      ...shown,
    };
  });
}

// Runs in the page: the least contrast (WCAG) between the text of values and cells and what is
// painted behind it.
function contrastOf() {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = ([red, green, blue]) => {
    const linear = (part) => (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const names = ['majorValue', 'underLabel', 'cell', 'viz-title', 'viz-description', 'input-title'];
  const ratios = names.flatMap((name) => [...document.querySelectorAll(`[data-test="${name}"]`)])
    .flatMap((element) => [element, ...element.querySelectorAll('*')])
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((element) => {
      const [one, two] = [parse(getComputedStyle(element).color), behind(element)].map(luminance);
      return (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    });
  return Math.min(...ratios);
}

async function report(step) {
  const deadline = Date.now() + 30000;
  let panels = [];
  do {
    await page.waitForTimeout(250);
    panels = await page.evaluate(panelsOf);
  } while (Date.now() < deadline && !(panels.length && panels.every((panel) => panel.atRest)));
  const restless = panels.filter((panel) => !panel.atRest);
  if (!panels.length || restless.length) {
    const body = await page.evaluate(() => document.body.innerText);
    throw new Error(`${page.url()} did not come to rest: ${errors.join('; ')}\n${body}`);
  }
  if (step.screenshot) {
    await page.waitForTimeout(1500);
    await page.screenshot({ path: step.screenshot, fullPage: true });
  }
  const inputs = await page.evaluate(() =>
    [...document.querySelectorAll('[data-test="input-item"]')].map((input) => [
      input.getAttribute('aria-label').replace(/^Input /, ''),
      input.querySelector('input')?.value ?? input.querySelector('[data-test="label"]')?.textContent,
    ]));
  const seen = {
    address: page.url(),
    panels,
    inputs: Object.fromEntries(inputs),
    complaints: await page.evaluate(() => window.complaints),
    contrast: await page.evaluate(contrastOf),
    errors,
  };
  errors = [];
  return seen;
}

const reports = [];
for (const step of plan.steps) {
  if (step.open) {
    await page.goto(step.open);
  } else {
    const panel = page.locator(`#${step.click.panel}`);
    const target = step.click.text
      ? panel.getByText(step.click.text, { exact: true })
      : panel.locator('[data-test="majorValue"]');
    const before = page.url();
    await target.first().click();
    await page.waitForURL((url) => url.href !== before, { timeout: 15000 });
  }
  reports.push(await report(step));
}
await browser.close();
process.stdout.write(JSON.stringify(reports));
