import { expect, test } from 'vitest';
import type { Edge, Row } from '../src/api';
import { byReason, bytesPerSecond, count, pair, percent, point, rate } from '../src/figures';

const row: Row = {
  kind: 'deployment',
  namespace: 'shop',
  name: 'web',
  pods: 1,
  meshed_pods: 1,
  failed_pods: 0,
  problems: [],
  requests: null,
  connections: null,
};
const requests = {
  success: 90,
  failure: 30,
  tls: 60,
  latency_ms_p50: 1,
  latency_ms_p95: 2,
  latency_ms_p99: 3,
  no_tls_reasons: {},
};
const connections = { open: 4, open_tls: 1, read_bytes: 0, write_bytes: 0, no_tls_reasons: {} };

test('shares and rates come from the counts of the window', () => {
  expect(point({ ...row, requests }, 60, 7)).toEqual({
    time: 7,
    success: 0.75,
    rate: 2,
    p50: 1,
    p95: 2,
    p99: 3,
    tls: 0.5,
  });
});

test('without requests the share of TLS is that of the connections, and without those unknown', () => {
  expect(point({ ...row, connections }, 60, 0)).toMatchObject({ rate: null, tls: 0.25 });
  expect(point({ ...row, connections, requests }, 60, 0).tls).toBe(0.5);
  expect(point(row, 60, 0)).toMatchObject({ success: null, tls: null });
});

test('a share is never rounded to all or nothing', () => {
  expect([1, 0, 0.999999, 0.000001, 0.95, null].map(percent)).toEqual([
    '100 %',
    '0 %',
    '99.99 %',
    '0.01 %',
    '95.00 %',
    '–',
  ]);
});

test('figures have units', () => {
  expect([rate(0.25), rate(12.4), rate(null)]).toEqual(['0.3/s', '12/s', '–']);
  expect([bytesPerSecond(12), bytesPerSecond(1234), bytesPerSecond(5e12)]).toEqual([
    '12 B/s',
    '1.2 kB/s',
    '5000.0 GB/s',
  ]);
  expect([count(1, 'response'), count(1200, 'response')]).toEqual(['1 response', '1,200 responses']);
});

const end = { namespace: 'shop', kind: 'deployment', name: 'web' };

function edge(reason: string, connections: number): Edge {
  return {
    src: null,
    dst: end,
    secured: reason === '',
    no_tls_reason: reason,
    client_id: '',
    server_id: '',
    responses: 0,
    connections,
    open_connections: 0,
  };
}

test('either end of an edge may be unknown', () => {
  const inbound = edge('peer_sent_plaintext', 1);
  const outbound = { ...inbound, src: end, dst: null };
  const both = { ...inbound, src: end };
  expect(new Set([inbound, outbound, both].map(pair)).size).toBe(3);
});

test('plaintext is grouped by reason, the largest group first', () => {
  const groups = byReason([edge('probe', 1), edge('', 9), edge('off_cluster', 3), edge('probe', 1)]);
  expect(groups.map(([reason, edges]) => [reason, edges.length])).toEqual([
    ['off_cluster', 1],
    ['probe', 2],
  ]);
});
