import { expect, test } from 'vitest';
import { type Line, REQUESTS_MAX, Tap } from '../src/tap';

const side = (name: string, namespace = 'shop') => ({
  ip: '10.0.0.1',
  port: 4000,
  metadata: { namespace, deployment: name, pod: `${name}-1` },
});

/** The three events of one request. */
function events(stream: number, more: Line = {}, end: object = {}, millis = 3): Line[] {
  const id = { base: 1, stream };
  const ends: Line = {
    source: side('bot'),
    destination: side('web'),
    proxyDirection: 'INBOUND',
    tls: 'true',
    ...more,
  };
  return [
    { ...ends, requestInitEvent: { id, method: 'GET', authority: 'web', path: '/vote' } },
    { ...ends, responseInitEvent: { id, httpStatus: 200 } },
    { ...ends, responseEndEvent: { id, sinceRequestInit: { seconds: 0, nanos: millis * 1e6 }, ...end } },
  ];
}

function tapped(...all: Line[][]): Tap {
  const tap = new Tap('shop');
  all.flat().forEach((line, index) => tap.add(line, index));
  return tap;
}

test('a request and its end are one row, the latest first', () => {
  const [begun] = events(2);
  const requests = tapped(events(1), [begun as Line]).requests();
  expect(requests.map((it) => [it.id, it.status, it.milliseconds])).toEqual([
    ['1:2', null, null],
    ['1:1', 200, 3],
  ]);
  expect(requests[1]).toMatchObject({ source: 'bot', destination: 'web', secured: true, reason: '' });
});

test('requests are added up by who asks whom for what', () => {
  const rows = tapped(
    events(1, {}, {}, 5),
    events(2, {}, { grpcStatusCode: 0 }, 1),
    events(3, {}, { grpcStatusCode: 2 }, 9),
    events(4, {}, { resetErrorCode: 8 }, 4),
    events(5, { source: side('bot', 'other') }),
  ).rows();
  expect(rows.map((it) => [it.source, it.count, it.successes, it.best, it.worst, it.last])).toEqual([
    ['bot', 4, 2, 1, 9, 4],
    ['bot.other', 1, 1, 3, 3, 3],
  ]);
});

test('a status of 500 or more is a failure', () => {
  const [begun, head, end] = events(1) as [Line, Line, Line];
  const failed = { ...head, responseInitEvent: { id: { base: 1, stream: 1 }, httpStatus: 503 } };
  expect(tapped([begun, failed, end]).rows()[0]?.successes).toBe(0);
});

test('plaintext has its reason and a row of its own, and an unknown end its address', () => {
  const plain: Line = {
    source: { ip: '192.0.2.7', port: 1, metadata: {} },
    tls: 'no_proxy_tls',
    noTlsReason: 'peer_sent_plaintext',
  };
  const tap = tapped(events(1), events(2, plain));
  expect(tap.rows().map((it) => [it.source, it.secured, it.reason])).toEqual([
    ['bot', true, ''],
    ['192.0.2.7', false, 'peer_sent_plaintext'],
  ]);
});

test('what the proxies at both ends tell of is counted once', () => {
  const both = [1, 2, 3].map((n) => events(n)).concat([events(4, { proxyDirection: 'OUTBOUND' })]);
  expect(tapped(...both).rows().map((it) => it.count)).toEqual([3]);
});

test('a connection without HTTP is a row with its port, and counts when it has closed', () => {
  const connection = (stream: number, close: object): Line[] => {
    const id = { base: 1, stream };
    const ends: Line = { source: side('web'), destination: side('db'), proxyDirection: 'OUTBOUND', tls: 'true' };
    return [
      { ...ends, connectionOpenEvent: { id } },
      { ...ends, connectionCloseEvent: { id, sinceOpen: { seconds: 2, nanos: 0 }, end: 'clean', ...close } },
    ];
  };
  const [open] = connection(4, {});
  const tap = tapped(
    connection(1, {}),
    connection(2, { end: 'reset', endedBy: 'source' }),
    connection(3, { end: 'error', error: 'connection refused' }),
    [open as Line],
  );
  expect(tap.requests().map((it) => [it.end, it.milliseconds, it.succeeded])).toEqual([
    ['open', null, true],
    ['connection refused', 2000, false],
    ['reset by the source', 2000, false],
    ['closed', 2000, true],
  ]);
  expect(tap.rows().map((it) => [it.method, it.path, it.count, it.successes])).toEqual([['TCP', ':4000', 3, 1]]);
});

test('memory is bounded, and ends without a beginning and unknown kinds are passed over', () => {
  const tap = new Tap('shop');
  for (let n = 0; n < 5000; n += 1) {
    const [begun, head, end] = events(n) as [Line, Line, Line];
    tap.add({ ...begun, requestInitEvent: { ...begun.requestInitEvent, path: `/${n}` } as never }, n);
    if (n < 1000) {
      tap.add(head, n);
      tap.add(end, n);
    }
  }
  for (const line of [...events(9000).slice(1), { someLaterEvent: {} } as Line]) {
    tap.add(line, 0);
  }
  expect(tap.requests().length).toBe(REQUESTS_MAX);
  expect(tap.requests()[0]?.path).toBe('/4999');
  expect(tap.rows().length).toBe(200);
  // The first of those that have not ended were forgotten, the last were not.
  tap.add(events(1001)[2] as Line, 0);
  expect(tap.rows().some((it) => it.path === '/1001')).toBe(false);
  tap.add(events(4999)[2] as Line, 0);
  expect(tap.rows().some((it) => it.path === '/4999')).toBe(true);
});
