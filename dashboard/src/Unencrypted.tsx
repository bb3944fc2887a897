// What is not encrypted, and why: the reasons in words, with those that they concern.

import type { Edge, Graph, Overview } from './api';
import { amount, EndName, UNKNOWN_CLIENT, UNKNOWN_SERVER } from './EdgesTable';
import { byReason, key, pair, path } from './figures';
import { explain } from './reasons';

export function Unencrypted({ figures, graph }: { figures: Overview; graph: Graph }) {
  const groups = byReason(graph.edges);
  const secured = graph.edges.filter((it) => it.secured).length;
  const unmeshed = figures.workloads.filter((it) => it.meshed_pods < it.pods);
  return (
    <>
      <h1 tabIndex={-1}>What is not encrypted, and why</h1>
      <Summary plain={graph.edges.length - secured} secured={secured} />
      {groups.map(([reason, edges]) => (
        <Group key={reason} reason={reason} edges={edges} />
      ))}
      <h2>Workloads with pods outside of the mesh</h2>
      {unmeshed.length === 0 ? (
        <p>There are none.</p>
      ) : (
        <>
          <p>Nothing that they say to each other is encrypted by the mesh, and nobody counts it.</p>
          <ul class="columns">
            {unmeshed.map((it) => (
              <li key={key(it)}>
                <a href={path(it)}>
                  <span class="kind">
                    {it.namespace} {it.kind}/
                  </span>
                  {it.name}
                </a>{' '}
                ({it.pods - it.meshed_pods} of {it.pods})
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}

function Summary({ plain, secured }: { plain: number; secured: number }) {
  if (plain + secured === 0) {
    return <p>The proxies have seen no connection in the last ten minutes.</p>;
  }
  if (plain === 0) {
    return (
      <p class="good">
        √ Every connection that the proxies have seen in the last ten minutes was mutual TLS ({secured}{' '}
        pairs of client and server).
      </p>
    );
  }
  return (
    <p>
      In the last ten minutes {plain} {plain === 1 ? 'pair' : 'pairs'} of client and server talked in
      plaintext, and {secured} over mutual TLS.
    </p>
  );
}

function Group({ reason, edges }: { reason: string; edges: Edge[] }) {
  const { means, todo } = explain(reason);
  return (
    <section class="reason" aria-labelledby={`reason-${reason}`}>
      <h2 id={`reason-${reason}`}>
        <code>{reason}</code>
      </h2>
      <p>
        What it means: {means}.<br />
        What to do: {todo}.
      </p>
      <ul>
        {edges.map((edge) => (
          <li key={pair(edge)}>
            <EndName end={edge.src} unknown={UNKNOWN_CLIENT} /> →{' '}
            <EndName end={edge.dst} unknown={UNKNOWN_SERVER} /> <span class="kind">{amount(edge)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
