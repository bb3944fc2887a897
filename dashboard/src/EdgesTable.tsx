// Who talks to whom, a row for each client, server and outcome of TLS.

import type { Edge, End } from './api';
import { count, pair, path } from './figures';
import { explain } from './reasons';
import { Table } from './Table';

export function EdgesTable({ caption, edges }: { caption: string; edges: Edge[] }) {
  if (edges.length === 0) {
    return (
      <>
        <h2>{caption}</h2>
        <p>No connection was seen in the last ten minutes.</p>
      </>
    );
  }
  return (
    <>
      <Table caption={caption} columns={['Client', 'Server', 'Secured', 'Connections', 'Open', 'Responses']}>
        {edges.map((edge) => (
          <tr key={`${pair(edge)} ${edge.no_tls_reason}`}>
            <td>
              <EndName end={edge.src} unknown={UNKNOWN_CLIENT} />
            </td>
            <td>
              <EndName end={edge.dst} unknown={UNKNOWN_SERVER} />
            </td>
            <td>
              <Secured edge={edge} />
            </td>
            <td class="number">{edge.connections.toLocaleString('en')}</td>
            <td class="number">{edge.open_connections.toLocaleString('en')}</td>
            <td class="number">{edge.responses.toLocaleString('en')}</td>
          </tr>
        ))}
      </Table>
      <p class="detail">
        Pairs that were in use in the last ten minutes. Connections and responses are counted since the proxy that counts
        them began to.
      </p>
    </>
  );
}

/** What ends are of which nobody knows the workload. */
export const UNKNOWN_CLIENT = 'a client without a proxy';
export const UNKNOWN_SERVER = 'no workload of the cluster';

export function EndName({ end, unknown }: { end: End | null; unknown: string }) {
  if (!end) {
    return <em>{unknown}</em>;
  }
  return (
    <a href={path(end)}>
      <span class="kind">
        {end.namespace} {end.kind}/
      </span>
      {end.name}
    </a>
  );
}

/** The outcome in words, not in colour alone. */
export function Secured({ edge }: { edge: Edge }) {
  return edge.secured ? (
    <span class="good">√ mutual TLS</span>
  ) : (
    <span class="warn">
      ‼ plaintext: <code>{edge.no_tls_reason}</code>
      <span class="detail">{explain(edge.no_tls_reason).means}</span>
    </span>
  );
}

/** `3 connections, 12 responses`. */
export function amount(edge: Edge): string {
  return `${count(edge.connections, 'connection')}, ${count(edge.responses, 'response')}`;
}
