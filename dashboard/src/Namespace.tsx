// One namespace: its workloads, and who talks to whom in it.

import type { Graph, Overview } from './api';
import { EdgesTable } from './EdgesTable';
import { FiguresTable } from './FiguresTable';

interface Props {
  name: string;
  figures: Overview;
  /** Undefined until it is known. */
  graph: Graph | undefined;
}

export function Namespace({ name, figures, graph }: Props) {
  if (!figures.namespaces.some((it) => it.name === name)) {
    return (
      <>
        <h1 tabIndex={-1}>{name}</h1>
        <p>
          There is no namespace of this name (or it is one of Kubernetes itself, which nobody meshes).{' '}
          <a href="/">Go to the overview.</a>
        </p>
      </>
    );
  }
  const workloads = figures.workloads.filter((it) => it.namespace === name);
  const edges = graph?.edges.filter((it) => it.src?.namespace === name || it.dst?.namespace === name);
  return (
    <>
      <h1 tabIndex={-1}>
        <span class="kind">namespace/</span>
        {name}
      </h1>
      {workloads.length === 0 ? (
        <p>There are no workloads in this namespace.</p>
      ) : (
        <FiguresTable caption="Workloads" rows={workloads} windowSeconds={figures.window_seconds} />
      )}
      {edges && <EdgesTable caption="Who talks to whom" edges={edges} />}
    </>
  );
}
