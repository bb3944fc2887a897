// Serves the built page and the answers of fixture.mjs, with the page's own rules about what it may load.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { certificates, edges, overview, past, pods } from './fixture.mjs';
import { answer as answerTap } from './tap.mjs';

const DIST = new URL('../dist/', import.meta.url);
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml', html: 'text/html' };

/** Starts a server on a free port. `state.error`, when set, is the answer to every question,
 * `state.edgesError` to who talks to whom, `state.versionError` to which control plane it is. */
export async function serve(state) {
  let asked = 0;
  const answer = (path) => {
    if (path === '/api/version') {
      return state.versionError
        ? { error: state.versionError }
        : { version: '0.1.0', control_plane_namespace: 'linkerd' };
    }
    if (state.error) {
      return { error: state.error };
    }
    if (state.empty) {
      return path === '/api/overview'
        ? { window_seconds: 60, namespaces: [], workloads: [] }
        : { window_seconds: 600, control_plane_namespace: 'linkerd', edges: [], step_seconds: 120, rows: [] };
    }
    if (path === '/api/overview') {
      asked += 1;
      return overview(asked);
    }
    if (path === '/api/edges') {
      return state.edgesError ? { error: state.edgesError } : edges();
    }
    if (path === '/api/history') {
      return past(30, 120);
    }
    if (path.startsWith('/api/history/')) {
      return past(60, 60, path.split('/').slice(-2).join('/'));
    }
    return path.startsWith('/api/certificates/') ? certificates() : pods();
  };
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url, 'http://localhost');
    response.setHeader('content-security-policy', POLICY);
    if (pathname === '/api/tap' && request.headers['linkerd-dashboard-tap']) {
      answerTap(state, searchParams, response);
      return;
    }
    if (pathname.startsWith('/api/')) {
      const body = answer(pathname);
      response.writeHead(body.error ? 503 : 200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
      return;
    }
    const file = pathname.startsWith('/assets/') ? pathname.slice(1) : 'index.html';
    const content = await readFile(new URL(file, DIST));
    response.setHeader('content-type', TYPES[file.split('.').at(-1)]);
    response.end(content);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}
