// Makes dist/, which is committed: cargo embeds it and needs no node. `npm ci && npm run build`.
import { readFile, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

// What is bundled, and the files with its terms. The rest of what noVNC names is not in the bundle.
const BUNDLED = {
  '@novnc/novnc': ['LICENSE.txt', 'AUTHORS', 'docs/LICENSE.MPL-2.0', 'core/crypto/des.js', 'vendor/pako/LICENSE'],
  '@xterm/xterm': ['LICENSE'],
  '@xterm/addon-fit': ['LICENSE'],
};

const packages = await Promise.all(Object.keys(BUNDLED).map(async (name) => {
  const { version, license } = JSON.parse(await readFile(`node_modules/${name}/package.json`, 'utf8'));
  return { name, version, license };
}));
const origin = packages.map(({ name, version, license }) => `${name} ${version} (${license})`).join(', ');

await build({
  entryPoints: ['src/main.js', 'src/style.css', 'src/index.html'],
  loader: { '.html': 'copy' },
  outdir: 'dist',
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  legalComments: 'none',
  banner: {
    js: `// Ferrovirt's virtctl/web with ${origin}; unmodified, from npm. Terms: licenses.txt`,
    css: `/* Ferrovirt's virtctl/web with ${origin}. Terms: licenses.txt */`,
  },
});

const parts = await Promise.all(packages.map(async ({ name, version, license }) => {
  const texts = await Promise.all(BUNDLED[name].map(async (file) => {
    const text = await readFile(`node_modules/${name}/${file}`, 'utf8');
    // Of a source file, the comment that it begins with.
    return `--- ${file}\n\n${file.endsWith('.js') ? text.slice(0, text.indexOf('*/') + 2) : text}`;
  }));
  return `${name} ${version}, ${license}\nIts source, unmodified: the package of this name and version on npm.\n\n${texts.join('\n')}`;
}));
await writeFile('dist/licenses.txt', parts.join(`\n${'='.repeat(100)}\n`));
