// Asks again and again while somebody looks, and keeps the figures since the page was opened.

import { useEffect, useState } from 'preact/hooks';
import { ask, type Overview } from './api';
import { key, type Point, point } from './figures';

/** The proxies' metrics are collected every ten seconds. */
const INTERVAL_MS = 10_000;
/** Two hours. */
const POINTS_MAX = 720;

export interface Answer<T> {
  /** The last answer; undefined before the first. */
  data?: T;
  /** Why the last question had no answer. */
  error?: string;
}

/** The answer to `path`, kept fresh. The last one stays when the next question fails. */
export function usePolled<T>(path: string, seen?: (data: T) => void): Answer<T> {
  const [answer, setAnswer] = useState<Answer<T> & { path: string }>({ path });
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let ended = false;
    let asking = false;
    const poll = async () => {
      if (asking) {
        return;
      }
      asking = true;
      try {
        const data = await ask<T>(path);
        if (!ended) {
          seen?.(data);
          setAnswer({ path, data });
        }
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        if (!ended) {
          setAnswer((last) => ({ path, data: last.path === path ? last.data : undefined, error: text }));
        }
      }
      asking = false;
      if (!ended && !document.hidden) {
        timer = setTimeout(poll, INTERVAL_MS);
      }
    };
    const visibility = () => {
      clearTimeout(timer);
      if (!document.hidden) {
        void poll();
      }
    };
    void poll();
    document.addEventListener('visibilitychange', visibility);
    return () => {
      ended = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', visibility);
    };
  }, [path]);
  return answer.path === path ? answer : {};
}

const past = new Map<string, Point[]>();

/** Adds an overview to what is remembered. Objects that are gone are forgotten. */
export function remember(overview: Overview, time = Date.now() / 1000): void {
  const rows = [...overview.namespaces, ...overview.workloads];
  const seen = new Set<string>();
  for (const row of rows) {
    const points = past.get(key(row)) ?? [];
    points.push(point(row, overview.window_seconds, time));
    if (points.length > POINTS_MAX) {
      points.shift();
    }
    past.set(key(row), points);
    seen.add(key(row));
  }
  for (const known of past.keys()) {
    if (!seen.has(known)) {
      past.delete(known);
    }
  }
}

/** The figures of an object since the page was opened, the latest last. */
export function history(of: { kind: string; namespace: string; name: string }): Point[] {
  return past.get(key(of)) ?? [];
}
