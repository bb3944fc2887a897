// What people are told of a certificate. Pure.

import type { Certificate } from './api';

/** So long after its time a renewal is late: a proxy looks at its files, and tries again, within minutes. */
const LATE_SECONDS = 15 * 60;

export type State = 'good' | 'late' | 'ended';

export function state({ ends_at, renewal_at }: Certificate, now: number): State {
  if (ends_at <= now) {
    return 'ended';
  }
  return renewal_at !== null && renewal_at + LATE_SECONDS < now ? 'late' : 'good';
}

/** `2026-11-30 16:05, in 15 hours`, as the clock here has it. */
export function moment(seconds: number, now: number): string {
  const at = new Date(seconds * 1000);
  const two = (number: number) => String(number).padStart(2, '0');
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}, ${distance(seconds - now)}`;
}

/** `in 15 hours`, `3 minutes ago`: the largest unit of which there are at least two. */
export function distance(seconds: number): string {
  const size = Math.abs(seconds);
  const [unit, length] = (
    [
      ['year', 365 * 86_400],
      ['day', 86_400],
      ['hour', 3600],
      ['minute', 60],
    ] as const
  ).find(([, length]) => size >= 2 * length) ?? ['second', 1];
  const words = `${Math.floor(size / length)} ${unit}s`;
  return seconds < 0 ? `${words} ago` : `in ${words}`;
}

/** The trust anchors that vouch for certificates, each once. */
export function anchors(certificates: Certificate[]): NonNullable<Certificate['trust_anchor']>[] {
  const known = new Map<string, NonNullable<Certificate['trust_anchor']>>();
  for (const { trust_anchor } of certificates) {
    if (trust_anchor) {
      known.set(`${trust_anchor.name} ${trust_anchor.serial}`, trust_anchor);
    }
  }
  return [...known.values()];
}
