/**
 * What became of an offer, read from how the document changes: VS Code tells only of an offer that was
 * accepted as a whole, by the command that came with it.
 */

import type { CompletionFeedbackParams } from "../protocol.gen.js";

export interface Offer {
  uri: string;
  /** Offset at which it stands. */
  offset: number;
  text: string;
}

export interface Change {
  offset: number;
  /** Characters that were taken away. */
  removed: number;
  text: string;
}

export class OfferWatch {
  #offer: Offer | undefined;
  #known = "";

  constructor(private readonly tell: (feedback: CompletionFeedbackParams) => void) {}

  /** VS Code got an offer to show; the same one told again is no second one. */
  shown(offer: Offer): void {
    const end = `${offer.uri}\n${offer.offset + offer.text.length}\n${offer.text.slice(-20)}`;
    this.#offer = offer;
    if (end !== this.#known) {
      this.#known = end;
      this.tell({ event: "shown" });
    }
  }

  /** VS Code runs the command of an offer that was accepted; the daemon hears of it by itself. */
  accepted(): void {
    this.#offer = undefined;
  }

  changed(uri: string, change: Change): void {
    const offer = this.#offer;
    if (offer?.uri !== uri || (change.offset === offer.offset && change.text === offer.text)) {
      return; // the whole of it: `accepted` follows
    }
    if (change.offset !== offer.offset || change.removed > 0 || !offer.text.startsWith(change.text)) {
      this.#end();
      return;
    }
    // One character is typed along; several at once are a word or a line that was taken.
    const characters = change.text.length;
    if (characters > 1) {
      this.tell({ event: "partiallyAccepted", characters });
    }
    this.#offer = { uri, offset: offer.offset + characters, text: offer.text.slice(characters) };
  }

  /** The cursor went elsewhere, or the user dismissed it. */
  left(): void {
    if (this.#offer) {
      this.#end();
    }
  }

  #end(): void {
    this.#offer = undefined;
    this.tell({ event: "rejected" });
  }
}
