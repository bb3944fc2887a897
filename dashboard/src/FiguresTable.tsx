// Objects and their figures, a row each.

import type { Row } from './api';
import { key, milliseconds, path, percent, point, rate } from './figures';
import { history } from './past';
import { Sparkline } from './Sparkline';
import { Table } from './Table';

interface Props {
  caption: string;
  rows: Row[];
  windowSeconds: number;
  /** Whether the objects are namespaces. */
  namespaces?: boolean;
  /** Whether the namespace of each object is shown. */
  withNamespace?: boolean;
}

export function FiguresTable({ caption, rows, windowSeconds, namespaces, withNamespace }: Props) {
  return (
    <Table
      caption={caption}
      columns={[
        namespaces ? 'Namespace' : 'Workload',
        ...(withNamespace ? ['Namespace'] : []),
        'Meshed',
        'Success',
        'Requests',
        'Latency p99',
        'Mutual TLS',
      ]}
    >
      {rows.map((row) => (
        <FiguresRow
          key={key(row)}
          row={row}
          windowSeconds={windowSeconds}
          namespaces={namespaces}
          withNamespace={withNamespace}
        />
      ))}
    </Table>
  );
}

function FiguresRow({ row, windowSeconds, namespaces, withNamespace }: Omit<Props, 'caption' | 'rows'> & { row: Row }) {
  const now = point(row, windowSeconds, 0);
  const points = history(row);
  return (
    <tr>
      <th scope="row">
        <a href={namespaces ? `/namespaces/${row.name}` : path(row)}>
          {!namespaces && <span class="kind">{row.kind}/</span>}
          {row.name}
        </a>
        {row.problems.map((it) => (
          <div class="problem" key={`${it.pod} ${it.container}`}>
            {it.pod}: {it.container} does not run: {it.reason} {it.message}
          </div>
        ))}
      </th>
      {withNamespace && (
        <td>
          <a href={`/namespaces/${row.namespace}`}>{row.namespace}</a>
        </td>
      )}
      <td class={row.meshed_pods < row.pods ? 'number warn' : 'number'}>
        {row.meshed_pods}/{row.pods}
        {row.failed_pods > 0 && <span class="problem"> {row.failed_pods} failed</span>}
      </td>
      <td class={now.success !== null && now.success < 1 ? 'number warn' : 'number'}>
        <span class="figure">{percent(now.success)}</span> <Sparkline points={points} figure="success" top={1} />
      </td>
      <td class="number">
        <span class="figure">{rate(now.rate)}</span> <Sparkline points={points} figure="rate" />
      </td>
      <td class="number">
        <span class="figure">{milliseconds(now.p99)}</span> <Sparkline points={points} figure="p99" />
      </td>
      <td class={tlsClass(now.tls)}>
        <span class="figure">{percent(now.tls)}</span> <Sparkline points={points} figure="tls" top={1} />
      </td>
    </tr>
  );
}

function tlsClass(share: number | null): string {
  if (share === null) {
    return 'number';
  }
  return share === 1 ? 'number good' : 'number warn';
}
