/** What the tested modules use of VS Code. */

export const l10n = {
  /** The English text, with its arguments put in as VS Code does. */
  t: (message: string, ...args: (string | number | boolean)[]): string =>
    message.replace(/\{(\d+)\}/g, (place, index: string) => String(args[Number(index)] ?? place)),
};
