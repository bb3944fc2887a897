// The two tables of live requests.

import { percent } from './figures';
import { explain } from './reasons';
import { Table } from './Table';
import type { Request, Row } from './tap';

export function TopTable({ rows }: { rows: Row[] }) {
  return (
    <Table
      caption="Added up"
      region="Requests, added up"
      columns={['Source', 'Destination', 'Method', 'Path', 'Count', 'Best', 'Worst', 'Last', 'Success', 'TLS']}
    >
      {rows.map((row) => (
        <tr key={JSON.stringify([row.source, row.destination, row.method, row.path, row.secured])}>
          <td>{row.source}</td>
          <td>{row.destination}</td>
          <td>{row.method}</td>
          <td class="path">{row.path}</td>
          <td class="number">{row.count.toLocaleString('en')}</td>
          <td class="number">{latency(row.best)}</td>
          <td class="number">{latency(row.worst)}</td>
          <td class="number">{latency(row.last)}</td>
          <td class={row.successes < row.count ? 'number warn' : 'number'}>{percent(row.successes / row.count)}</td>
          <td>
            <Outcome of={row} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

export function RequestsTable({ requests }: { requests: Request[] }) {
  return (
    <Table
      caption="One by one, the latest first"
      region="Requests, one by one"
      columns={['Time', 'Source', 'Destination', 'Method', 'Path', 'Status', 'Took', 'TLS']}
    >
      {requests.map((request) => (
        <tr key={request.id}>
          <td class="number">{clock(request.time)}</td>
          <td>{request.source}</td>
          <td>{request.destination}</td>
          <td>{request.method}</td>
          <td class="path" title={request.authority}>
            {request.path}
          </td>
          <td class={request.succeeded ? 'number' : 'number problem'}>
            {[request.status ?? (request.end ? '' : '…'), request.end].filter(Boolean).join(', ')}
          </td>
          <td class="number">{request.milliseconds === null ? '…' : latency(request.milliseconds)}</td>
          <td>
            <Outcome of={request} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Outcome({ of }: { of: { secured: boolean; reason: string } }) {
  return of.secured ? (
    <span class="good">√ mutual</span>
  ) : (
    <span class="warn" title={explain(of.reason).means}>
      ‼ <code>{of.reason}</code>
    </span>
  );
}

/** `7 ms`, `0.35 ms`, `2.1 s`. */
export function latency(milliseconds: number): string {
  if (milliseconds >= 1000) {
    return `${(milliseconds / 1000).toFixed(1)} s`;
  }
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 0)} ms`;
}

function clock(time: number): string {
  const at = new Date(time);
  const two = (number: number) => String(number).padStart(2, '0');
  const millis = String(at.getMilliseconds()).padStart(3, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${millis}`;
}
