// One workload: its figures over time, its peers, its pods and their certificates, its live requests.

import type { Certificate, End, Graph, Overview, Pod } from './api';
import { Chart } from './Chart';
import { EdgesTable } from './EdgesTable';
import { bytesPerSecond, count, key, milliseconds, percent, point, rate, sameEnd } from './figures';
import { Live } from './Live';
import { history, usePast } from './past';
import { PodsTable } from './PodsTable';
import { usePolled } from './poll';
import { explain } from './reasons';

interface Props {
  end: End;
  figures: Overview;
  /** Undefined until it is known. */
  graph: Graph | undefined;
}

export function Workload({ end, figures, graph }: Props) {
  const row = figures.workloads.find((it) => key(it) === key(end));
  const pods = usePolled<Pod[]>(`/api/pods/${encodeURIComponent(end.namespace)}`);
  const certificates = usePolled<Record<string, Certificate>>(
    `/api/certificates/${encodeURIComponent(end.namespace)}`,
  );
  const parts = [end.namespace, end.kind, end.name].map(encodeURIComponent);
  const pastError = usePast(row && `/api/history/${parts.join('/')}`);
  const own = pods.data?.filter((it) => it.owner_kind === end.kind && it.owner_name === end.name);
  const heading = (
    <h1 tabIndex={-1}>
      <span class="kind">{end.kind}/</span>
      {end.name} <span class="kind">in</span> <a href={`/namespaces/${end.namespace}`}>{end.namespace}</a>
    </h1>
  );
  const edges = graph?.edges ?? [];
  const inbound = edges.filter((it) => sameEnd(it.dst, end));
  const outbound = edges.filter((it) => sameEnd(it.src, end));
  if (graph && !row && inbound.length === 0 && outbound.length === 0 && own?.length === 0) {
    return (
      <>
        {heading}
        <p>
          There is no such workload now. <a href="/">Go to the overview.</a>
        </p>
      </>
    );
  }
  const identity = inbound.find((it) => it.server_id)?.server_id ?? outbound.find((it) => it.client_id)?.client_id;
  const points = history(end);
  const times = points.map((it) => it.time);
  const now = row && point(row, figures.window_seconds, 0);
  const reasons = Object.entries(row?.requests?.no_tls_reasons ?? {});
  return (
    <>
      {heading}
      {now && (
        <dl class="tiles">
          <Tile name="Success" value={percent(now.success)} />
          <Tile name="Requests" value={rate(now.rate)} />
          <Tile name="Latency p50" value={milliseconds(now.p50)} />
          <Tile name="Latency p95" value={milliseconds(now.p95)} />
          <Tile name="Latency p99" value={milliseconds(now.p99)} />
          <Tile name="Mutual TLS" value={percent(now.tls)} />
          {row?.connections && (
            <>
              <Tile
                name="Open connections"
                value={`${row.connections.open}, ${row.connections.open_tls} with TLS`}
              />
              <Tile
                name="Read, written"
                value={[row.connections.read_bytes, row.connections.write_bytes]
                  .map((bytes) => bytesPerSecond(bytes / figures.window_seconds))
                  .join(', ')}
              />
            </>
          )}
        </dl>
      )}
      {row && !row.requests && (
        <p>No request was seen in the last minute{row.meshed_pods === 0 && ': none of its pods is meshed'}.</p>
      )}
      {reasons.length > 0 && (
        <p class="warn">
          In plaintext in the last minute:{' '}
          {reasons.map(([reason, requests]) => (
            <span key={reason}>
              {count(requests, 'request')} <code>{reason}</code>, {explain(reason).means}.{' '}
            </span>
          ))}
        </p>
      )}
      {identity && (
        <p>
          Proves to be <code class="identity">{identity}</code>.
        </p>
      )}
      {row && (
        <div class="charts">
          <Chart
            title="Success"
            times={times}
            top={1}
            format={percent}
            lines={[{ label: '', colour: '--accent', values: points.map((it) => it.success) }]}
          />
          <Chart
            title="Requests"
            times={times}
            format={rate}
            lines={[{ label: '', colour: '--accent', values: points.map((it) => it.rate) }]}
          />
          <Chart
            title="Latency"
            times={times}
            format={(value) => milliseconds(value === null ? null : Math.round(value))}
            lines={[
              { label: 'p50', colour: '--good', values: points.map((it) => it.p50) },
              { label: 'p95', colour: '--accent', values: points.map((it) => it.p95) },
              { label: 'p99', colour: '--warn', values: points.map((it) => it.p99) },
            ]}
          />
          <Chart
            title="Mutual TLS"
            times={times}
            top={1}
            format={percent}
            lines={[{ label: '', colour: '--good', values: points.map((it) => it.tls) }]}
          />
        </div>
      )}
      {pastError && <p>What was before this page was opened is not known: {pastError}</p>}
      {graph && <EdgesTable caption="Inbound: who talks to it" edges={inbound} />}
      {graph && <EdgesTable caption="Outbound: whom it talks to" edges={outbound} />}
      {pods.error && <p class="failure">Its pods: {pods.error}</p>}
      {own && <PodsTable pods={own} certificates={certificates.data} error={certificates.error} />}
      <Live end={end} />
    </>
  );
}

function Tile({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
