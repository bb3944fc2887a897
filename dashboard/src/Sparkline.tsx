// A line as high as the text beside it, which says the same in figures; so it is hidden from readers.

import type { Point } from './figures';

const WIDTH = 84;
const HEIGHT = 20;

interface Props {
  points: Point[];
  figure: 'success' | 'rate' | 'p99' | 'tls';
  /** The value at the top; the largest one when not given. */
  top?: number;
}

export function Sparkline({ points, figure, top }: Props) {
  const values = points.map((it) => it[figure]);
  const highest = top ?? Math.max(0, ...values.map((it) => it ?? 0));
  const first = points[0]?.time ?? 0;
  const span = (points.at(-1)?.time ?? 0) - first;
  const lines: string[] = [];
  let open = false;
  values.forEach((value, index) => {
    if (value === null) {
      open = false;
      return;
    }
    const x = span === 0 ? WIDTH : (((points[index]?.time ?? 0) - first) / span) * WIDTH;
    const y = HEIGHT - 2 - (highest === 0 ? 0 : value / highest) * (HEIGHT - 4);
    if (!open && span === 0) {
      lines.push(`M0,${y.toFixed(1)}`);
    }
    lines.push(`${open || span === 0 ? 'L' : 'M'}${x.toFixed(1)},${y.toFixed(1)}`);
    open = true;
  });
  return (
    <svg class={`spark ${figure}`} width={WIDTH} height={HEIGHT} aria-hidden="true">
      <path d={lines.join('')} />
    </svg>
  );
}
