import { openConsole } from './console.js';
import { openScreen } from './screen.js';

const { name, namespace } = await (await fetch('vm')).json();
document.title = `${name} · virtctl`;
document.getElementById('name').textContent = name;
document.getElementById('namespace').textContent = namespace;
openScreen(document.getElementById('screen'));
openConsole(document.getElementById('console'));
