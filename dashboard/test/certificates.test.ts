import { expect, test } from 'vitest';
import { anchors, distance, state } from '../src/certificates';

const anchor = (serial: string) => ({ name: 'root', serial, ends_at: 9 });
const certificate = (ends_at: number, renewal_at: number | null, serial = '01') => ({
  ends_at,
  renewal_at,
  trust_anchor: anchor(serial),
});

test('a certificate is good until its renewal is late by minutes', () => {
  expect(state(certificate(90_000, 60_000), 59_999)).toBe('good');
  expect(state(certificate(90_000, 60_000), 60_900)).toBe('good');
  expect(state(certificate(90_000, 60_000), 60_901)).toBe('late');
  expect(state(certificate(90_000, 60_000), 90_000)).toBe('ended');
  expect(state(certificate(90_000, null), 89_999)).toBe('good');
});

test('distances are in the largest unit of which there are two', () => {
  expect([15 * 3600 + 59, 119, 120, -7200, 86_400 * 800, 0].map(distance)).toEqual([
    'in 15 hours',
    'in 119 seconds',
    'in 2 minutes',
    '2 hours ago',
    'in 2 years',
    'in 0 seconds',
  ]);
});

test('each trust anchor is named once', () => {
  const some = [certificate(1, 1, '01'), certificate(1, 1, '02'), certificate(2, 2, '01')];
  expect(anchors([...some, { ...certificate(1, 1), trust_anchor: null }]).map((it) => it.serial)).toEqual(['01', '02']);
});
