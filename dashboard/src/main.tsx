// The dashboard's page. Entry of the program; one component a page, in the files of their names.

import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import 'uplot/dist/uPlot.min.css';
import './style.css';
import { ask, type Graph as Edges, type Overview as Figures, type Version } from './api';
import { Graph } from './Graph';
import { Namespace } from './Namespace';
import { Overview } from './Overview';
import { remember, usePast } from './past';
import { usePolled } from './poll';
import { followLinks, type Route, useRoute } from './route';
import { apply, choose, chosen, type Theme } from './theme';
import { Unencrypted } from './Unencrypted';
import { Workload } from './Workload';

const PAGES = [
  ['/', 'Overview', 'overview'],
  ['/graph', 'Who talks to whom', 'graph'],
  ['/unencrypted', 'Not encrypted', 'unencrypted'],
] as const;

function App() {
  const route = useRoute();
  const figures = usePolled<Figures>('/api/overview', remember);
  const edges = usePolled<Edges>('/api/edges');
  // Without it the lines are shorter, and nothing else is missing. A workload's page asks for its own.
  usePast(route.page === 'overview' || route.page === 'namespace' ? '/api/history' : undefined);
  const [version, setVersion] = useState<Version>();
  useEffect(() => {
    // Without this answer nothing is missing but a line; when others are missing, the page says so.
    ask<Version>('/api/version').then(setVersion, () => undefined);
  }, []);
  useEffect(() => {
    document.title = `${title(route)} – Linkerd dashboard`;
  }, [title(route)]);
  return (
    <>
      <a class="skip" href="#main">
        Skip to the figures
      </a>
      <header>
        <span class="brand">Linkerd</span>
        <nav aria-label="Pages">
          {PAGES.map(([path, name, page]) => (
            <a key={path} href={path} aria-current={route.page === page ? 'page' : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <ThemeSwitch />
      </header>
      <main id="main" tabIndex={-1}>
        <div role="alert">
          {figures.error && <Failure error={figures.error} kept={figures.data && 'the figures'} />}
          {edges.error && edges.error !== figures.error && (
            <Failure error={edges.error} kept={edges.data && 'the connections'} />
          )}
        </div>
        <Page
          route={route}
          figures={figures.data}
          edges={edges.data}
          failed={(figures.error ?? edges.error) !== undefined}
        />
      </main>
      <Footer version={version} />
    </>
  );
}

interface PageProps {
  route: Route;
  figures: Figures | undefined;
  edges: Edges | undefined;
  failed: boolean;
}

function Page({ route, figures, edges, failed }: PageProps) {
  if (route.page === 'absent') {
    return (
      <>
        <h1 tabIndex={-1}>No such page</h1>
        <p>
          Nothing is at <code>{location.pathname}</code>. <a href="/">Go to the overview.</a>
        </p>
      </>
    );
  }
  // A page waits for what it is about; where the connections are missing, figures are shown alone.
  if (route.page === 'graph' && edges) {
    return <Graph graph={edges} />;
  }
  if (route.page === 'unencrypted' && figures && edges) {
    return <Unencrypted figures={figures} graph={edges} />;
  }
  if (route.page === 'overview' && figures) {
    return <Overview figures={figures} />;
  }
  if (route.page === 'namespace' && figures) {
    return <Namespace name={route.namespace} figures={figures} graph={edges} />;
  }
  if (route.page === 'workload' && figures) {
    return <Workload key={location.pathname} end={route} figures={figures} graph={edges} />;
  }
  return (
    <>
      <h1 tabIndex={-1}>{title(route)}</h1>
      {!failed && <p>Asking the control plane …</p>}
    </>
  );
}

function Failure({ error, kept }: { error: string; kept: string | undefined }) {
  return (
    <p class="failure">
      {error} It is asked again every ten seconds{kept ? `; ${kept} below are the last ones.` : '.'}
    </p>
  );
}

function title(route: Route): string {
  switch (route.page) {
    case 'overview':
      return 'Overview';
    case 'graph':
      return 'Who talks to whom';
    case 'unencrypted':
      return 'What is not encrypted, and why';
    case 'namespace':
      return route.namespace;
    case 'workload':
      return `${route.kind}/${route.name}`;
    case 'absent':
      return 'No such page';
  }
}

function ThemeSwitch() {
  const [theme, setTheme] = useState<Theme>(chosen());
  return (
    <label class="theme">
      Theme
      <select
        value={theme}
        onChange={(event) => {
          const value = (event.currentTarget as HTMLSelectElement).value as Theme;
          choose(value);
          setTheme(value);
        }}
      >
        <option value="system">as the system</option>
        <option value="light">light</option>
        <option value="dark">dark</option>
      </select>
    </label>
  );
}

function Footer({ version }: { version: Version | undefined }) {
  return (
    <footer>
      {version && `Linkerd ${version.version}, control plane in namespace ${version.control_plane_namespace}. `}
      Figures are of the last minute and renewed every ten seconds; lines begin an hour before this page was
      opened, as far as that is remembered. Read only.
    </footer>
  );
}

apply();
followLinks();
const place = document.getElementById('app');
if (place) {
  render(<App />, place);
}
