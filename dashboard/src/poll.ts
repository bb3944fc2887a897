// Asks again and again while somebody looks. What came is kept in past.ts.

import { useEffect, useState } from 'preact/hooks';
import { ask } from './api';

/** The proxies' metrics are collected every ten seconds. */
const INTERVAL_MS = 10_000;

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
