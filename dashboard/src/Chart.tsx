// A chart over time, drawn by uPlot: its legend has the newest values, and those of the moment that the mouse points
// at, in all charts of the page. The table of the same figures is what readers read.

import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';

export interface Line {
  label: string;
  /** A colour of the style sheet: `--good`. */
  colour: string;
  values: (number | null)[];
}

interface Props {
  title: string;
  times: number[];
  lines: Line[];
  format: (value: number | null) => string;
  /** The value at the top; the largest one when not given. */
  top?: number;
}

const HEIGHT = 150;
/** What the page has seen at first is a point; the axis has a minute then. */
const SPAN_MIN_SECONDS = 60;

export function Chart({ title, times, lines, format, top }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const latest = useRef<uPlot.AlignedData>([times, ...lines.map((it) => it.values)]);
  latest.current = [times, ...lines.map((it) => it.values)];
  const [pointed, setPointed] = useState<number | null>(null);
  // -1 is the newest.
  const at = Math.min(pointed ?? -1, times.length - 1);

  useEffect(() => {
    const draw = () => {
      chart.current?.destroy();
      if (place.current) {
        chart.current = new uPlot(
          options(place.current.clientWidth, lines, format, top, setPointed),
          latest.current,
          place.current,
        );
      }
    };
    draw();
    const resized = new ResizeObserver(() => {
      if (place.current) {
        chart.current?.setSize({ width: place.current.clientWidth, height: HEIGHT });
      }
    });
    if (place.current) {
      resized.observe(place.current);
    }
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', draw);
    addEventListener('linkerd:theme', draw);
    return () => {
      resized.disconnect();
      scheme.removeEventListener('change', draw);
      removeEventListener('linkerd:theme', draw);
      chart.current?.destroy();
      chart.current = null;
    };
  }, []);
  useEffect(() => chart.current?.setData(latest.current), [times.length, times.at(-1)]);

  return (
    <figure class="chart">
      <figcaption>
        {title}
        {lines.map((line) => (
          <span class={`legend ${line.colour.slice(2)}`} key={line.label}>
            {line.label} {format(line.values.at(at) ?? null)}
          </span>
        ))}
        {pointed !== null && <span class="moment">at {clock(times.at(at) ?? 0)}</span>}
      </figcaption>
      <div ref={place} aria-hidden="true" />
    </figure>
  );
}

/** Ticks are seconds apart only while the page has seen no more than a few minutes. */
function minutes(_: uPlot, ticks: number[]): string[] {
  const whole = ticks.every((it) => it % 60 === 0);
  return ticks.map((it) => (whole ? clock(it).slice(0, 5) : clock(it)));
}

/** `20:45:10`, where the reader is. */
function clock(seconds: number): string {
  return uPlot.fmtDate('{HH}:{mm}:{ss}')(new Date(seconds * 1000));
}

function options(
  width: number,
  lines: Line[],
  format: (value: number | null) => string,
  top: number | undefined,
  point: (index: number | null) => void,
): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--muted'),
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
    font: '12px system-ui, sans-serif',
  };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: 'charts' } },
    hooks: { setCursor: [(chart) => point(chart.cursor.idx ?? null)] },
    select: { show: false, left: 0, top: 0, width: 0, height: 0 },
    scales: {
      x: { time: true, range: (_, from, to) => [Math.min(from, to - SPAN_MIN_SECONDS), to] },
      y: { range: (_, __, highest) => [0, top ?? (highest > 0 ? highest * 1.1 : 1)] },
    },
    axes: [
      { ...axis, size: 28, values: minutes, space: 70 },
      { ...axis, size: 62, values: (_, ticks) => ticks.map((it) => format(it).replace('.00', '')), space: 30 },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: 2,
        points: { show: (chart: uPlot) => (chart.data[0]?.length ?? 0) < 3 },
      })),
    ],
  };
}
