// The page in a browser: what is on it, that it loads nothing from elsewhere, that the keyboard is enough.
// With DASHBOARD_URL the pages of a real control plane are looked at (emojivoto has to run there); with
// SCREENSHOTS=FOLDER pictures of them are made.

import assert from 'node:assert/strict';
import axe from 'axe-core';
import { chromium } from 'playwright-core';
import { serve } from './server.mjs';

const PAGES = {
  overview: '/',
  graph: '/graph',
  workload: '/namespaces/emojivoto/deployment/web',
  unencrypted: '/unencrypted',
};
const state = {};
const { DASHBOARD_URL: real, SCREENSHOTS: folder } = process.env;
const server = real ? { url: real, close() {} } : await serve(state);
const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync'],
});
let passed = 0;

/** Runs one test in a browser of its own; what the page complains about fails it. */
async function test(claim, options, body) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => {
    // What the server refuses on purpose the browser writes down too.
    if (message.type() === 'error' && !message.text().includes('status of 503')) {
      complaints.push(message.text());
    }
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(server.url)) {
      complaints.push(`loads ${request.url()}`);
    }
  });
  try {
    await body(page);
    assert.deepEqual(complaints, []);
    passed += 1;
    console.log(`ok: ${claim}`);
  } catch (error) {
    console.error(`FAILED: ${claim}\n${error.stack}\n${await page.locator('body').innerText()}`);
    process.exitCode = 1;
  }
  await context.close();
}

const go = async (page, path) => {
  await page.goto(server.url + path);
  await page.locator('main :is(table, section, h2)').first().waitFor();
};
/** The overview's row of a workload of emojivoto: other namespaces may have one of the same name. */
const row = (page, name) =>
  page
    .getByRole('row')
    .filter({ has: page.getByRole('link', { name: 'emojivoto', exact: true }) })
    .getByRole('rowheader', { name, exact: true });
const text = (page) => page.locator('main').innerText();

await test('the overview has a row for each namespace and workload', {}, async (page) => {
  await go(page, PAGES.overview);
  for (const name of ['emojivoto', 'deployment/web', 'deployment/voting']) {
    await row(page, name).waitFor();
  }
  assert.match(await text(page), /\d+\.\d\d %|100 %/);
});

await test('links and the back button lead from page to page, and each has its URL and title', {}, async (page) => {
  await go(page, PAGES.overview);
  await row(page, 'deployment/web').getByRole('link').click();
  await page.waitForURL(`**${PAGES.workload}`);
  await page.locator('h1:focus').waitFor();
  assert.match(await page.title(), /^deployment\/web/);
  await page.getByRole('link', { name: 'Who talks to whom' }).click();
  await page.locator('svg .node').first().waitFor();
  await page.locator('svg a.node', { hasText: 'voting' }).filter({ hasText: 'emojivoto' }).click();
  await page.waitForURL('**/namespaces/emojivoto/deployment/voting');
  await page.goBack();
  await page.waitForURL('**/graph');
});

await test('the keyboard is enough', {}, async (page) => {
  await go(page, PAGES.overview);
  await page.keyboard.press('Tab');
  assert.equal(await page.locator(':focus').innerText(), 'Skip to the figures');
  for (let presses = 0; presses < 4; presses += 1) {
    await page.keyboard.press('Tab');
  }
  await page.keyboard.press('Shift+Tab');
  await page.keyboard.press('Enter');
  await page.waitForURL('**/unencrypted');
});

await test('the theme follows the system, and the switch', { colorScheme: 'dark' }, async (page) => {
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await go(page, PAGES.workload);
  const dark = await back();
  await page.getByLabel('Theme').selectOption('light');
  const light = await back();
  assert.notEqual(dark, light);
  await page.reload();
  await page.locator('table').first().waitFor();
  assert.equal(await back(), light);
});

await test('a workload page has charts, peers and pods', {}, async (page) => {
  await go(page, PAGES.workload);
  assert.equal(await page.locator('.chart canvas').count(), 4);
  for (const name of ['Inbound: who talks to it', 'Outbound: whom it talks to', 'Pods']) {
    await page.getByRole('table', { name }).waitFor();
  }
  assert.match(await text(page), /web\.deployment\.emojivoto\./);
});

await test('an unknown workload and an unknown page are said in words', {}, async (page) => {
  await page.goto(`${server.url}/namespaces/emojivoto/deployment/nobody`);
  await page.getByText('There is no such workload now').waitFor();
});

await test('nothing is wider than a narrow window', { viewport: { width: 420, height: 800 } }, async (page) => {
  for (const path of Object.values(PAGES)) {
    await go(page, path);
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 420, `${path}: ${width}`);
  }
});

for (const colorScheme of ['light', 'dark']) {
  await test(`what axe knows of accessibility holds on every page, ${colorScheme}`, { colorScheme }, async (page) => {
    for (const path of Object.values(PAGES)) {
      await go(page, path);
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate(() => window.axe.run());
      const found = violations.map(({ id, nodes }) => `${path} ${id}: ${nodes.map((it) => it.html)}`);
      assert.deepEqual(found, []);
    }
  });
}

if (!real) {
  await test('what is plaintext has its reason in words, and what to do', {}, async (page) => {
    await go(page, PAGES.unencrypted);
    const words = await text(page);
    for (const part of ['peer_not_meshed', 'What to do: inject the peer.', 'a client without a proxy', 'legacy']) {
      assert.ok(words.includes(part), `${part}: ${words}`);
    }
    await go(page, PAGES.graph);
    await page.locator('svg text', { hasText: 'peer_not_meshed' }).waitFor();
  });
  await test('the graph hides the control plane unless told, and the URL keeps the choice', {}, async (page) => {
    await go(page, PAGES.graph);
    const prometheus = page.locator('svg a.node', { hasText: 'linkerd-prometheus' });
    await page.locator('svg a.node', { hasText: 'voting' }).waitFor();
    await prometheus.waitFor({ state: 'detached' });
    await page.getByLabel('with the control plane').check();
    await prometheus.waitFor();
    await page.reload();
    await prometheus.waitFor();
    await page.getByLabel('Namespace').selectOption('linkerd');
    await page.locator('svg a.node', { hasText: 'voting' }).waitFor({ state: 'detached' });
    assert.ok(page.url().endsWith('/graph?namespace=linkerd&control-plane='), page.url());
  });
  await test('a control plane without an answer is said in words', {}, async (page) => {
    state.error = 'cannot ask Prometheus: connection refused';
    await page.goto(server.url);
    await page.getByRole('alert').getByText('connection refused').waitFor();
    delete state.error;
  });
  await test('an empty mesh says what to do', {}, async (page) => {
    state.empty = true;
    await page.goto(server.url);
    await page.getByText('Nothing is meshed yet').waitFor();
    await page.goto(`${server.url}/graph`);
    await page.getByText('No connection was seen').waitFor();
    await page.goto(`${server.url}/unencrypted`);
    await page.getByText('have seen no connection').waitFor();
    delete state.empty;
  });
}

if (folder) {
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({ colorScheme, viewport: { width: 1180, height: 760 } });
    const page = await context.newPage();
    await page.clock.install();
    await go(page, PAGES.overview);
    // The lines need some time to become lines.
    for (let polls = 0; polls < Number(process.env.POLLS ?? 30); polls += 1) {
      const answered = page.waitForResponse('**/api/overview');
      await page.clock.runFor(10_000);
      await answered;
      await page.waitForTimeout(20);
    }
    for (const [name, path] of Object.entries(PAGES)) {
      await page.evaluate((to) => {
        const link = document.createElement('a');
        link.href = to;
        document.body.append(link);
        link.click();
        link.remove();
      }, path);
      await page.clock.runFor(100);
      await page.waitForTimeout(300);
      await page.screenshot({ path: `${folder}/dashboard-${name}-${colorScheme}.png` });
    }
    await context.close();
  }
}

await browser.close();
server.close();
console.log(`${passed} tests of the page passed`);
