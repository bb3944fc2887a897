import { defineConfig } from 'vite';

// The files keep their names: linkerd-api sends them with `no-store`, so nobody has old ones.
export default defineConfig({
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    assetsInlineLimit: 0,
    modulePreload: false,
    rolldownOptions: {
      output: {
        entryFileNames: 'assets/index.js',
        assetFileNames: 'assets/[name][extname]',
      },
    },
  },
  // `npm run dev` shows the page with the figures of a dashboard that runs beside it.
  server: { proxy: { '/api': 'http://127.0.0.1:50750' } },
});
