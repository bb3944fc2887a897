// The page in a browser: what is on it, that it loads nothing from elsewhere, that the keyboard is enough.
// With DASHBOARD_URL the pages of a real control plane are looked at (emojivoto has to run there); with
// SCREENSHOTS=FOLDER pictures of them are made.

import assert from 'node:assert/strict';
import axe from 'axe-core';
import { chromium } from 'playwright-core';
import { serve } from './server.mjs';

const PAGES = {
  overview: '/',
  namespace: '/namespaces/emojivoto',
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
    if (message.type() === 'error' && !/status of (404|502|503)/.test(message.text())) {
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
  for (const name of ['Inbound: who talks to it', 'Outbound: whom it talks to', 'Pods and their certificates']) {
    await page.getByRole('table', { name }).waitFor();
  }
  assert.match(await text(page), /web\.deployment\.emojivoto\./);
});

await test('the mouse over one chart shows the figures of that moment in all of them', {}, async (page) => {
  await go(page, PAGES.workload);
  const moments = page.locator('.chart .moment');
  assert.equal(await moments.count(), 0);
  const charts = page.locator('.chart .u-over');
  await charts.nth(1).hover({ position: { x: 5, y: 20 } });
  await moments.nth(3).waitFor();
  const [first] = await moments.allInnerTexts();
  assert.match(first, /^at \d\d:\d\d:\d\d$/);
  assert.deepEqual(await moments.allInnerTexts(), [first, first, first, first]);
  const box = await charts.nth(1).boundingBox();
  await charts.nth(1).hover({ position: { x: box.width - 5, y: 20 } });
  await page.waitForFunction((old) => document.querySelector('.chart .moment')?.innerText !== old, first);
  await page.mouse.move(0, 0);
  await moments.first().waitFor({ state: 'detached' });
});

await test('pods say when their certificates end and are renewed, and who vouches for them', {}, async (page) => {
  await go(page, PAGES.workload);
  await page.getByText('Trust anchor:').waitFor();
  const words = await text(page);
  assert.match(words, /Trust anchor: .*serial number [0-9A-F]{8,}, ends \d{4}-\d\d-\d\d \d\d:\d\d, in \d+ /);
  const pods = page.getByRole('table', { name: 'Pods and their certificates' }).locator('tbody tr');
  assert.match(await pods.first().innerText(), /\d\d:\d\d, in \d+ (hours|minutes).*\d\d:\d\d, in \d+ (hours|minutes)/);
});

/** Presses `Watch`, by the keyboard, and waits for requests. */
const watch = async (page) => {
  await go(page, PAGES.workload);
  await page.getByRole('button', { name: 'Watch' }).focus();
  await page.keyboard.press('Enter');
  await page.getByRole('status').getByText('Watching.').waitFor();
  await page.getByRole('table', { name: 'Added up' }).locator('tbody tr').first().waitFor();
};
const counts = async (page) => {
  const cells = page.getByRole('table', { name: 'Added up' }).locator('tbody td:nth-child(5)');
  const numbers = (await cells.allInnerTexts()).map((it) => Number(it.replace(',', '')));
  return numbers.reduce((sum, it) => sum + it, 0);
};

/** Waits until more requests have been counted. */
const grows = async (page) => {
  const before = await counts(page);
  for (let tries = 0; (await counts(page)) <= before; tries += 1) {
    assert.ok(tries < 200, `${before} requests are counted, and no more`);
    await page.waitForTimeout(50);
  }
};

await test('live requests come, are added up, stand still while paused, and end with Stop', {}, async (page) => {
  await watch(page);
  const one = page.getByRole('table', { name: 'One by one' });
  const bot = one.locator('tr', { hasText: /vote-bot\s*web\s*GET\s*\/api\// }).first();
  await bot.getByText('√ mutual').waitFor();
  await grows(page);
  const button = page.getByRole('button', { name: 'Pause' });
  await button.click();
  assert.equal(await button.getAttribute('aria-pressed'), 'true');
  const still = await page.locator('section[aria-labelledby=live]').innerText();
  await page.waitForTimeout(1500);
  assert.equal(await page.locator('section[aria-labelledby=live]').innerText(), still);
  await button.click();
  await grows(page);
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('status').getByText('Stopped.').waitFor();
  assert.ok((await counts(page)) > 0);
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
  /** Waits until so many taps are open. */
  const taps = async (page, number) => {
    for (let tries = 0; (state.taps ?? 0) !== number; tries += 1) {
      assert.ok(tries < 100, `${state.taps} taps are open, and not ${number}`);
      await page.waitForTimeout(50);
    }
  };
  await test('lines begin an hour before the page was opened', {}, async (page) => {
    await go(page, PAGES.overview);
    const line = row(page, 'deployment/web').locator('xpath=..').locator('.spark.rate path');
    await page.waitForFunction((it) => it.getAttribute('d').split('L').length > 25, await line.elementHandle());
  });
  await test('a tap says what it is for, and ends with the page, with Stop, and when nobody looks', {}, async (page) => {
    await watch(page);
    await taps(page, 1);
    await page.getByRole('link', { name: 'Overview' }).click();
    await taps(page, 0);
    await page.goBack();
    await page.getByLabel('Method').fill('POST');
    await page.getByLabel('Path begins with').fill('/emojivoto.v1 &');
    await page.getByRole('button', { name: 'Watch' }).click();
    await taps(page, 1);
    const asked = { namespace: 'emojivoto', kind: 'deployment', name: 'web', method: 'POST', path: '/emojivoto.v1 &' };
    assert.deepEqual(state.asked, asked);
    await page.evaluate(() => {
      Object.defineProperty(document, 'hidden', { value: true });
      document.dispatchEvent(new Event('visibilitychange'));
    });
    await taps(page, 0);
    await page.getByText('Stopped, because nobody looked at this page.').waitFor();
  });
  await test('200 requests are kept, plaintext has its reason, and failures are seen', {}, async (page) => {
    state.flood = 1000;
    await watch(page);
    delete state.flood;
    await page.waitForFunction(() => document.querySelectorAll('.dense tbody tr').length > 200);
    const one = page.getByRole('table', { name: 'One by one' });
    assert.equal(await one.locator('tbody tr').count(), 200);
    assert.ok((await counts(page)) >= 1000);
    await one.getByText('‼ peer_sent_plaintext').first().waitFor();
    await one.getByText('200, gRPC 2').first().waitFor();
    await page.getByRole('table', { name: 'Added up' }).locator('td.warn').first().waitFor();
  });
  await test('a reader is told of changes and not of every request', {}, async (page) => {
    await watch(page);
    const told = await page.evaluate(async () => {
      let changes = 0;
      const observer = new MutationObserver(() => {
        changes += 1;
      });
      for (const region of document.querySelectorAll('[role=status], [role=alert], [aria-live]')) {
        observer.observe(region, { childList: true, subtree: true, characterData: true });
      }
      await new Promise((resolve) => setTimeout(resolve, 1500));
      return changes;
    });
    assert.equal(told, 0);
  });
  for (const colorScheme of ['light', 'dark']) {
    await test(`what axe knows holds while requests come, ${colorScheme}`, { colorScheme }, async (page) => {
      await watch(page);
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate(() => window.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map((it) => it.html)}`), []);
    });
  }
  await test('who lacks the right is told which, and a page without its command how to get it', {}, async (page) => {
    state.tap = 'cannot tap: user "jane" cannot watch resource "deployments/tap": ask for that right';
    await go(page, PAGES.workload);
    await page.getByRole('button', { name: 'Watch' }).click();
    await page.getByRole('status').getByText('user "jane" cannot watch resource "deployments/tap"').waitFor();
    state.tap = 'absent';
    await page.getByRole('button', { name: 'Watch' }).click();
    await page.getByText('Open it with linkerd dashboard').waitFor();
    delete state.tap;
  });
  await test('what is plaintext has its reason in words, and what to do', {}, async (page) => {
    await go(page, PAGES.unencrypted);
    const words = await text(page);
    for (const part of [
      'peer_not_meshed',
      'What to do: inject the peer.',
      'a client without a proxy',
      'legacy',
      'off_cluster',
      'no workload of the cluster',
    ]) {
      assert.ok(words.includes(part), `${part}: ${words}`);
    }
    await go(page, PAGES.graph);
    await page.locator('svg text', { hasText: 'peer_not_meshed' }).waitFor();
    await page.locator('svg g.node', { hasText: 'no workload' }).waitFor();
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
  await test('the graph hides the control plane when only its version is missing', {}, async (page) => {
    state.versionError = 'cannot reach the control plane';
    await go(page, PAGES.graph);
    delete state.versionError;
    const prometheus = page.locator('svg a.node', { hasText: 'linkerd-prometheus' });
    await page.locator('svg a.node', { hasText: 'voting' }).waitFor();
    assert.equal(await prometheus.count(), 0);
    await page.getByLabel('with the control plane').check();
    await prometheus.waitFor();
  });
  await test('a pod that cannot be watched is told, until it tells something', {}, async (page) => {
    state.troubles = ['emojivoto/web-1', 'emojivoto/web-gone'];
    await watch(page);
    delete state.troubles;
    await page.getByText('Pod emojivoto/web-gone cannot be watched: no answer').waitFor();
    await page.getByText('Pod emojivoto/web-1 cannot be watched').waitFor({ state: 'detached' });
  });
  await test('the link to all of who talks to whom leads there from a part of it', {}, async (page) => {
    await go(page, `${PAGES.graph}?namespace=linkerd`);
    const voting = page.locator('svg a.node', { hasText: 'voting' });
    assert.equal(await voting.count(), 0);
    await page.getByRole('link', { name: 'Who talks to whom' }).click();
    await voting.waitFor();
    assert.ok(page.url().endsWith('/graph'), page.url());
    await page.goBack();
    await voting.waitFor({ state: 'detached' });
  });
  await test('figures are shown where only the connections are missing', {}, async (page) => {
    state.edgesError = 'cannot ask Prometheus: too long an answer';
    for (const path of [PAGES.overview, PAGES.namespace, PAGES.workload]) {
      await page.goto(server.url + path);
      await page.getByRole('alert').getByText('too long an answer').waitFor();
      await page.locator('main :is(table, dl.tiles)').first().waitFor();
    }
    await page.goto(server.url + PAGES.graph);
    await page.getByRole('alert').getByText('too long an answer').waitFor();
    assert.ok(!(await text(page)).includes('are the last ones'));
    delete state.edgesError;
  });
  await test('a browser that keeps nothing for the page shows it all the same', {}, async (page) => {
    await page.addInitScript(() => {
      Object.defineProperty(window, 'localStorage', {
        get() {
          throw new DOMException('denied', 'SecurityError');
        },
      });
    });
    await go(page, PAGES.overview);
    await page.getByLabel('Theme').selectOption('dark');
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
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
    for (let polls = 0; polls < Number(process.env.POLLS ?? 3); polls += 1) {
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
      if (name === 'workload') {
        await page.getByRole('button', { name: 'Watch' }).click();
        for (let looks = 0; looks < 8; looks += 1) {
          await page.waitForTimeout(250);
          await page.clock.runFor(267);
        }
        await page.locator('#live').evaluate((it) => it.scrollIntoView({ behavior: 'instant' }));
        await page.screenshot({ path: `${folder}/dashboard-live-${colorScheme}.png` });
      }
    }
    await context.close();
  }
}

await browser.close();
server.close();
console.log(`${passed} tests of the page passed`);
