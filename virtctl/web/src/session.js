// What a pane shows when virtctl itself is gone; else virtctl has the last words.
const GONE = 'virtctl no longer answers. Run it again, and open the address that it prints.';
const ENDED = 'The connection has ended.';
const ABNORMAL = 1006; // RFC 6455, section 7.4.1

/**
 * One pane's connection: opens it, shows how it stands, and offers to open it again.
 *
 * Binary messages are the guest's bytes. Text is virtctl's: empty once the guest's side is open, else
 * why it is not, or no longer.
 */
export class Session {
  #pane;
  #endpoint;
  #attach;

  /** `attach` is handed each WebSocket whose other end is the guest. */
  constructor(pane, endpoint, attach) {
    this.#pane = pane;
    this.#endpoint = endpoint;
    this.#attach = attach;
    pane.querySelector('.again').addEventListener('click', () => this.open());
  }

  open() {
    const url = new URL(this.#endpoint, location.href);
    url.protocol = 'ws:';
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    let words = '';
    socket.addEventListener('message', (event) => {
      if (typeof event.data === 'string') {
        // Whoever reads the guest's bytes takes no text.
        event.stopImmediatePropagation();
        words = event.data;
        if (!words) {
          this.#attach(socket);
        }
      }
    });
    socket.addEventListener('close', ({ code }) => {
      this.#show('ended', words || (code === ABNORMAL ? GONE : ENDED));
    });
    this.#show('connecting', 'Connecting…');
  }

  /** What the guest shows can be seen. */
  connected() {
    this.#show('connected', '');
  }

  #show(state, words) {
    this.#pane.dataset.state = state;
    this.#pane.querySelector('[role=status]').textContent = words;
  }
}
