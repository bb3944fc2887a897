// From counts to figures and words. Pure.

import type { Edge, End, Row } from './api';

/** The figures of one object at one time. Null where there was no traffic. */
export interface Point {
  /** Seconds since 1970. */
  time: number;
  /** Share of 1. */
  success: number | null;
  /** Requests a second. */
  rate: number | null;
  p50: number | null;
  p95: number | null;
  p99: number | null;
  /** Share of 1; of requests, or where there were none, of open connections. */
  tls: number | null;
}

export function point(row: Pick<Row, 'requests' | 'connections'>, windowSeconds: number, time: number): Point {
  const { requests, connections } = row;
  const all = requests ? requests.success + requests.failure : 0;
  const open = connections?.open ?? 0;
  let tls: number | null = null;
  if (requests && all > 0) {
    tls = requests.tls / all;
  } else if (connections && open > 0) {
    tls = connections.open_tls / open;
  }
  if (!requests || all === 0) {
    return { time, success: null, rate: null, p50: null, p95: null, p99: null, tls };
  }
  return {
    time,
    success: requests.success / all,
    rate: all / windowSeconds,
    p50: requests.latency_ms_p50,
    p95: requests.latency_ms_p95,
    p99: requests.latency_ms_p99,
    tls,
  };
}

/** `95.00 %`. What is not all is never rounded up to all, and what is not nothing not down to nothing. */
export function percent(share: number | null): string {
  if (share === null) {
    return '–';
  }
  if (share === 1 || share === 0) {
    return `${share * 100} %`;
  }
  const hundredths = Math.min(9999, Math.max(1, Math.round(share * 10_000)));
  return `${(hundredths / 100).toFixed(2)} %`;
}

export function rate(perSecond: number | null): string {
  return perSecond === null ? '–' : `${perSecond.toFixed(perSecond < 10 ? 1 : 0)}/s`;
}

export function milliseconds(value: number | null): string {
  return value === null ? '–' : `${value} ms`;
}

export function bytesPerSecond(value: number): string {
  const units = ['B/s', 'kB/s', 'MB/s', 'GB/s'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
}

/** `1 connection`, `2 connections`. */
export function count(number: number, noun: string): string {
  return `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
}

/** What tells an object from all others. */
export function key(of: { kind: string; namespace: string; name: string }): string {
  return `${of.kind}/${of.namespace}/${of.name}`;
}

export function sameEnd(a: End | null, b: End): boolean {
  return a !== null && key(a) === key(b);
}

/** Tells the two ends of an edge from others. */
export function pair({ src, dst }: Edge): string {
  return `${src && key(src)} ${dst && key(dst)}`;
}

/** The page of a workload. */
export function path(end: { kind: string; namespace: string; name: string }): string {
  return `/namespaces/${end.namespace}/${end.kind}/${end.name}`;
}

/** Edges in plaintext by their reason, the reason with the most connections first. */
export function byReason(edges: Edge[]): [string, Edge[]][] {
  const groups = new Map<string, Edge[]>();
  for (const edge of edges) {
    if (!edge.secured) {
      const group = groups.get(edge.no_tls_reason) ?? [];
      group.push(edge);
      groups.set(edge.no_tls_reason, group);
    }
  }
  const size = (group: Edge[]) => group.reduce((sum, it) => sum + it.connections + it.responses, 0);
  return [...groups].sort(([, a], [, b]) => size(b) - size(a));
}
