import { expect, test } from 'vitest';
import { parse } from '../src/route';

test('every page has a URL', () => {
  expect(parse('/')).toEqual({ page: 'overview' });
  expect(parse('/graph')).toEqual({ page: 'graph' });
  expect(parse('/unencrypted')).toEqual({ page: 'unencrypted' });
  expect(parse('/namespaces/shop')).toEqual({ page: 'namespace', namespace: 'shop' });
  expect(parse('/namespaces/shop/deployment/web')).toEqual({
    page: 'workload',
    namespace: 'shop',
    kind: 'deployment',
    name: 'web',
  });
});

test('other URLs are no page', () => {
  for (const path of ['/no', '/namespaces', '/namespaces/a/b', '/graph/x', '/namespaces/a/b/c/d', '/%']) {
    expect(parse(path), path).toEqual({ page: 'absent' });
  }
});
