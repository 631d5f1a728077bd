/** What the tested modules use of VS Code. */

export const l10n = {
  /** The English text, with its arguments put in as VS Code does. */
  t: (message: string, ...args: (string | number | boolean)[]): string =>
    message.replace(/\{(\d+)\}/g, (place, index: string) => String(args[Number(index)] ?? place)),
};

export class EventEmitter<T> {
  readonly #listeners = new Set<(event: T) => unknown>();

  readonly event = (listener: (event: T) => unknown): { dispose(): void } => {
    this.#listeners.add(listener);
    return { dispose: () => void this.#listeners.delete(listener) };
  };

  /** Whoever begins to listen meanwhile hears the next one. */
  fire(event: T): void {
    [...this.#listeners].forEach((listener) => listener(event));
  }

  dispose(): void {
    this.#listeners.clear();
  }
}

export class ThemeColor {
  constructor(readonly id: string) {}
}

export enum StatusBarAlignment {
  Left = 1,
  Right = 2,
}

export const window = {
  createStatusBarItem: (id: string, alignment: StatusBarAlignment, priority: number): object => ({
    id,
    alignment,
    priority,
    show: () => undefined,
    dispose: () => undefined,
  }),
};
