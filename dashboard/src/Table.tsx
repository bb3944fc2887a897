// A table with a caption, and a name over each column.

import type { ComponentChildren } from 'preact';

interface Props {
  caption: string;
  columns: string[];
  /** The name of the region in which a long and dense table scrolls. */
  region?: string;
  /** Its rows. */
  children: ComponentChildren;
}

export function Table({ caption, columns, region, children }: Props) {
  const high = { class: 'scroll high', role: 'region', 'aria-label': region, tabIndex: 0 } as const;
  return (
    <div {...(region ? high : { class: 'scroll' })}>
      <table class={region && 'dense'}>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {columns.map((column) => (
              <th scope="col" key={column}>
                {column}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
