// The pods of a workload, and the certificates that their proxies have in use.

import type { Certificate, Pod } from './api';
import { anchors, moment, state } from './certificates';
import { Table } from './Table';

interface Props {
  pods: Pod[];
  /** By pod; undefined while that is not known. */
  certificates: Record<string, Certificate> | undefined;
  /** Why it is not known. */
  error: string | undefined;
}

export function PodsTable({ pods, certificates, error }: Props) {
  if (pods.length === 0) {
    return (
      <>
        <h2>Pods</h2>
        <p>It has no pods now.</p>
      </>
    );
  }
  const now = Date.now() / 1000;
  const own = pods.flatMap((pod) => certificates?.[pod.name] ?? []);
  return (
    <>
      <Table
        caption="Pods and their certificates"
        columns={['Pod', 'Status', 'Address', 'Meshed', 'Certificate ends', 'Its renewal is due']}
      >
        {pods.map((pod) => (
          <tr key={pod.name}>
            <th scope="row">{pod.name}</th>
            <td>{pod.status}</td>
            <td>{pod.ip || '–'}</td>
            <td>{pod.meshed ? 'yes' : <span class="warn">no</span>}</td>
            <Dates certificate={certificates?.[pod.name]} known={certificates !== undefined} pod={pod} now={now} />
          </tr>
        ))}
      </Table>
      {error && <p class="failure">Their certificates: {error}</p>}
      {anchors(own).map((anchor) => (
        <p key={anchor.serial}>
          Trust anchor: {anchor.name || 'without a name'}, serial number{' '}
          <code class="identity">{anchor.serial}</code>, ends {moment(anchor.ends_at, now)}.
        </p>
      ))}
    </>
  );
}

function Dates({
  certificate,
  known,
  pod,
  now,
}: {
  certificate: Certificate | undefined;
  known: boolean;
  pod: Pod;
  now: number;
}) {
  if (!certificate) {
    const none = known && pod.meshed && pod.status === 'Running';
    return <td colSpan={2}>{none ? <span class="warn">‼ none is in use</span> : '–'}</td>;
  }
  const { ends_at, renewal_at } = certificate;
  const how = state(certificate, now);
  return (
    <>
      <td class={how === 'ended' ? 'problem' : undefined}>
        {how === 'ended' && '× ended: '}
        {moment(ends_at, now)}
      </td>
      <td class={how === 'good' ? undefined : 'warn'}>
        {how === 'late' && '‼ late: '}
        {renewal_at === null ? '–' : moment(renewal_at, now)}
      </td>
    </>
  );
}
