// The figures of each object over time: those since the page was opened, and before them what the control
// plane remembers. Entries: [`remember`], [`usePast`], [`history`].

import { useEffect, useState } from 'preact/hooks';
import { ask, type Course, type Overview, type Past } from './api';
import { key, type Point, point } from './figures';

/** Two hours. */
const POINTS_MAX = 720;
/** Three questions without an answer, or a page that nobody looked at: nothing is known of what was between. */
const GAP_SECONDS = 35;

const seen = new Map<string, Point[]>();
const before = new Map<string, Point[]>();
const asked = new Set<string>();

/** Adds an overview to what is remembered. Objects that are gone are forgotten. */
export function remember(overview: Overview, time = Date.now() / 1000): void {
  const rows = [...overview.namespaces, ...overview.workloads];
  const there = new Set<string>();
  for (const row of rows) {
    const points = seen.get(key(row)) ?? [];
    const last = points.at(-1)?.time ?? time;
    if (time - last > GAP_SECONDS) {
      points.push(point({ requests: null, connections: null }, overview.window_seconds, (last + time) / 2));
    }
    points.push(point(row, overview.window_seconds, time));
    points.splice(0, points.length - POINTS_MAX);
    seen.set(key(row), points);
    there.add(key(row));
  }
  for (const known of seen.keys()) {
    if (!there.has(known)) {
      seen.delete(known);
      before.delete(known);
    }
  }
}

/** Adds what was. Of two answers about an object the finer one is kept. */
export function recall(past: Past, time = Date.now() / 1000): void {
  for (const course of past.rows) {
    const points = course.success.map((_, index) => pointOf(course, index, past.step_seconds, time));
    if (points.length >= (before.get(key(course))?.length ?? 0)) {
      before.set(key(course), points);
    }
  }
}

/** The figures of an object, the latest last. */
export function history(of: { kind: string; namespace: string; name: string }): Point[] {
  const points = seen.get(key(of)) ?? [];
  const first = points[0]?.time ?? Infinity;
  return [...(before.get(key(of)) ?? []).filter((it) => it.time < first), ...points];
}

/** Asks once for what was before the page was opened, and returns why that is not known. */
export function usePast(path: string | undefined): string | undefined {
  const [error, setError] = useState<string>();
  const [, redraw] = useState(0);
  useEffect(() => {
    if (path === undefined || asked.has(path)) {
      return;
    }
    asked.add(path);
    setError(undefined);
    ask<Past>(path).then(
      (past) => {
        recall(past);
        redraw((n) => n + 1);
      },
      (reason) => {
        // The next visit asks again.
        asked.delete(path);
        setError(reason instanceof Error ? reason.message : String(reason));
      },
    );
  }, [path]);
  return error;
}

function pointOf(course: Course, index: number, step: number, time: number): Point {
  const at = (numbers: (number | null)[]) => numbers[index] ?? 0;
  const none = (numbers: (number | null)[]) => (numbers[index] ?? null) === null;
  const requests = none(course.success)
    ? null
    : {
        success: at(course.success),
        failure: at(course.failure),
        tls: at(course.tls),
        latency_ms_p50: at(course.latency_ms_p50),
        latency_ms_p95: at(course.latency_ms_p95),
        latency_ms_p99: at(course.latency_ms_p99),
        no_tls_reasons: {},
      };
  const connections = none(course.open)
    ? null
    : { open: at(course.open), open_tls: at(course.open_tls), read_bytes: 0, write_bytes: 0, no_tls_reasons: {} };
  const ago = (course.success.length - 1 - index) * step;
  return point({ requests, connections }, step, time - ago);
}
