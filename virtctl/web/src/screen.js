import RFB from '@novnc/novnc';
import { Session } from './session.js';

/** The VM's screen, by RFB over the WebSocket `vnc`. */
export function openScreen(pane) {
  const keys = pane.querySelector('#keys');
  const content = pane.querySelector('.content');
  let rfb;

  const session = new Session(pane, 'vnc', (socket) => {
    const opened = new RFB(content, socket);
    rfb = opened;
    opened.background = 'transparent';
    opened.scaleViewport = true;
    opened.viewOnly = true;
    opened.addEventListener('connect', () => {
      opened.viewOnly = false;
      keys.disabled = false;
      session.connected();
      if (document.activeElement === document.body) {
        opened.focus();
      }
    });
    opened.addEventListener('disconnect', () => {
      keys.disabled = true;
    });
  });

  keys.addEventListener('click', () => {
    rfb.sendCtrlAltDel();
    rfb?.focus();
  });
  pane.querySelector('#full').addEventListener('click', async () => {
    await pane.querySelector('.stage').requestFullscreen();
    rfb?.focus();
  });
  session.open();
}
