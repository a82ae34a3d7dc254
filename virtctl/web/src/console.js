import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import { Session } from './session.js';

// A guest is told no size of its serial line, and takes it for this wide.
const COLUMNS = 80;
const FONT = { largest: 14, smallest: 8 };

/** The VM's serial console: its bytes over the WebSocket `console`. */
export function openConsole(pane) {
  const content = pane.querySelector('.content');
  const terminal = new Terminal({
    cursorBlink: true,
    fontFamily: 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace',
    fontSize: FONT.largest,
    minimumContrastRatio: 4.5,
    scrollback: 5000,
  });
  const size = new FitAddon();
  terminal.loadAddon(size);
  terminal.open(content);

  // The largest font with which a line of the guest is a line here.
  const fit = () => {
    const { viewportY, baseY } = terminal.buffer.active;
    for (let font = FONT.largest; font >= FONT.smallest; font -= 1) {
      terminal.options.fontSize = font;
      if (size.proposeDimensions()?.cols >= COLUMNS) {
        break;
      }
    }
    size.fit();
    // Longer lines are fewer: whoever was at the end stays there.
    if (viewportY === baseY) {
      terminal.scrollToBottom();
    }
  };
  new ResizeObserver(() => content.clientWidth && fit()).observe(content);

  const dark = matchMedia('(prefers-color-scheme: dark)');
  const paint = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    terminal.options.theme = {
      background: colour('--terminal'),
      foreground: colour('--terminal-text'),
      cursor: colour('--accent'),
      selectionBackground: colour('--line'),
    };
  };
  dark.addEventListener('change', paint);
  paint();

  let socket;
  const send = (bytes) => {
    if (socket?.readyState === WebSocket.OPEN) {
      socket.send(bytes);
    }
  };
  const text = new TextEncoder();
  terminal.onData((typed) => send(text.encode(typed)));
  terminal.onBinary((bytes) => send(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));

  const session = new Session(pane, 'console', (opened) => {
    socket = opened;
    // What the guest printed last comes again.
    terminal.reset();
    opened.addEventListener('message', ({ data }) => terminal.write(new Uint8Array(data)));
    session.connected();
  });
  session.open();
}
