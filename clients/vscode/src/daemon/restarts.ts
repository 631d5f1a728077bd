/** When a daemon that died is started again. */

const DELAYS_MS = [0, 1_000, 2_000, 5_000, 10_000];
const WINDOW_MS = 180_000;

/** Waits longer each time; one that dies all the time is left alone until the user asks. */
export class Restarts {
  #deaths: number[] = [];

  /** Milliseconds to wait, or `undefined` to give up. */
  next(now: number = Date.now()): number | undefined {
    this.#deaths = this.#deaths.filter((death) => now - death < WINDOW_MS);
    this.#deaths.push(now);
    return DELAYS_MS[this.#deaths.length - 1];
  }

  /** Whether a start is one of those after a death. */
  get isTrying(): boolean {
    return this.#deaths.length > 0;
  }

  /** The user asked, so the past does not count. */
  forget(): void {
    this.#deaths = [];
  }
}
