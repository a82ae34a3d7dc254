// What a pane shows when virtctl itself is gone; else virtctl gives the reason.
const GONE = 'virtctl no longer answers. Run it again, and open the address that it prints.';
const ENDED = 'The connection has ended.';
const ABNORMAL = 1006; // RFC 6455, section 7.4.1

/** One pane's connection: opens it, shows how it stands, and offers to open it again. */
export class Session {
  #pane;
  #endpoint;
  #attach;

  /**
   * `attach` is handed each new WebSocket, and calls `connected` once the guest's side answers.
   */
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
    socket.addEventListener('close', ({ code, reason }) => {
      this.#show('ended', reason || (code === ABNORMAL ? GONE : ENDED));
    });
    this.#show('connecting', 'Connecting…');
    this.#attach(socket);
  }

  connected() {
    this.#show('connected', '');
  }

  #show(state, words) {
    this.#pane.dataset.state = state;
    this.#pane.querySelector('[role=status]').textContent = words;
  }
}
