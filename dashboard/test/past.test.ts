import { expect, test } from 'vitest';
import type { Course, Overview, Row } from '../src/api';
import { history, recall, remember } from '../src/past';

const end = { kind: 'deployment', namespace: 'shop', name: 'web' };

function course(values: (number | null)[]): Course {
  const zeros = values.map((it) => it && 0);
  return {
    ...end,
    success: values,
    failure: zeros,
    tls: values,
    latency_ms_p50: zeros,
    latency_ms_p95: zeros,
    latency_ms_p99: zeros,
    open: values.map(() => null),
    open_tls: values.map(() => null),
  };
}

function overview(names: string[]): Overview {
  const rows = names.map((name): Row => ({
    ...end,
    ...{ name, pods: 1, meshed_pods: 1, failed_pods: 0, problems: [], requests: null, connections: null },
  }));
  return { window_seconds: 60, namespaces: [], workloads: rows };
}

test('what was stands before what the page has seen, and finer answers replace coarse ones', () => {
  remember(overview(['web']), 10_000);
  recall({ step_seconds: 120, rows: [course([240, null, 120])] }, 10_005);
  expect(history(end).map((it) => [it.time, it.rate])).toEqual([
    [9765, 2],
    [9885, null],
    // That of now, 10005, has been seen by the page itself.
    [10_000, null],
  ]);
  recall({ step_seconds: 60, rows: [course([60, 60, 60, 60])] }, 10_005);
  expect(history(end).map((it) => it.time)).toEqual([9825, 9885, 9945, 10_000]);
  recall({ step_seconds: 120, rows: [course([240])] }, 10_005);
  expect(history(end).length).toBe(4);
  remember(overview(['web']), 10_010);
  expect(history(end).at(-1)?.time).toBe(10_010);
});

test('a time that nobody looked at is a gap, and not a line', () => {
  remember(overview(['web']), 10_100);
  const [before, gap, after] = history(end).slice(-3);
  expect([before?.time, gap?.time, after?.time]).toEqual([10_010, 10_055, 10_100]);
  expect(gap?.rate).toBeNull();
});

test('an object that is gone is forgotten', () => {
  remember(overview(['other']), 10_120);
  expect(history(end)).toEqual([]);
});
