// One node's live stream, for as long as it takes: reconnects, resumes behind the last message, gives up where it must.

import { accessToken, streamAddress } from "./api.js";

const SILENT_MS = 3000; // no schema message until then: no stream here (no key, a proxy, no streaming cache)
const LONGEST_PAUSE_MS = 3000;
const WITHOUT_MS = 30000;
const ENDED = 1000;
const REFUSED = [4001, 4003];

export class Stream {
  // handlers: message(data), opened(again), lost(), ended(), silent(). With `whole` every connection begins with the
  // first message that is kept, else with the one behind the last.
  constructor(path, handlers, { whole = false } = {}) {
    this.path = path;
    this.handlers = handlers;
    this.whole = whole;
    this.next = whole ? 1 : null;
    this.tries = 0;
    this.wasOpen = false;
    this.closed = false;
    this.connect();
  }

  connect() {
    if (this.closed) return;
    let heard = false;
    const socket = new WebSocket(streamAddress(this.path, this.next));
    this.socket = socket;
    const watchdog = setTimeout(() => {
      if (!heard) this.handlers.silent?.();
    }, SILENT_MS);
    socket.onopen = () => {
      const token = accessToken();
      if (token) socket.send(JSON.stringify({ type: "auth", access_token: token }));
    };
    socket.onmessage = (event) => {
      const data = JSON.parse(event.data);
      if (!heard) {
        heard = true;
        clearTimeout(watchdog);
        this.tries = 0;
        this.handlers.opened?.(this.wasOpen);
        this.wasOpen = true;
      }
      if (data.sequence != null && !this.whole) this.next = data.sequence + 1;
      this.handlers.message?.(data);
    };
    socket.onclose = (event) => {
      clearTimeout(watchdog);
      if (this.closed) return;
      if (event.code === ENDED) {
        this.closed = true;
        this.handlers.ended?.();
      } else if (REFUSED.includes(event.code)) {
        this.closed = true;
        this.handlers.silent?.();
      } else if (!this.wasOpen && this.tries >= 1) {
        // Never heard of, and refused again: a server without live streams. It may be another one some day.
        this.handlers.silent?.();
        this.timer = setTimeout(() => this.connect(), WITHOUT_MS);
      } else {
        this.handlers.lost?.();
        const pause = Math.min(200 * 2 ** this.tries, LONGEST_PAUSE_MS);
        this.tries += 1;
        this.timer = setTimeout(() => this.connect(), pause);
      }
    };
  }

  // Connect anew: to the node that has the path now, and behind nothing, as its messages are counted from one.
  restart() {
    if (this.closed) return;
    this.next = this.whole ? 1 : null;
    clearTimeout(this.timer);
    this.socket.onclose = this.socket.onmessage = null;
    this.socket.close();
    this.connect();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket.close();
  }
}
