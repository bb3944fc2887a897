// Every namespace and workload.

import type { Overview as Figures } from './api';
import { FiguresTable } from './FiguresTable';

export function Overview({ figures }: { figures: Figures }) {
  const meshed = (row: { meshed_pods: number; requests: unknown }) =>
    row.meshed_pods > 0 || row.requests !== null;
  // What is not meshed has no figures: it stands last.
  const workloads = [...figures.workloads].sort((a, b) => Number(meshed(b)) - Number(meshed(a)));
  const namespaces = [...figures.namespaces].sort((a, b) => Number(meshed(b)) - Number(meshed(a)));
  return (
    <>
      <h1 tabIndex={-1}>Overview</h1>
      {!figures.workloads.some(meshed) && (
        <p>
          Nothing is meshed yet. Add the proxy to an application:{' '}
          <code>linkerd inject --tls=optional app.yml | kubectl apply -f -</code>
        </p>
      )}
      <FiguresTable
        caption="Namespaces"
        rows={namespaces}
        windowSeconds={figures.window_seconds}
        namespaces
      />
      <FiguresTable
        caption="Workloads"
        rows={workloads}
        windowSeconds={figures.window_seconds}
        withNamespace
      />
    </>
  );
}
