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
  /** The last one that was told of as shown. */
  #told: Offer | undefined;

  constructor(private readonly tell: (feedback: CompletionFeedbackParams) => void) {}

  /** VS Code got an offer to show; the rest of the one before is no second one. */
  shown(offer: Offer): void {
    this.#offer = offer;
    if (!this.#told || !isRest(offer, this.#told)) {
      this.#told = offer;
      this.tell({ event: "shown" });
    }
  }

  /** VS Code runs the command of an offer that was accepted; the daemon hears of it by itself. */
  accepted(): void {
    this.#forget();
  }

  changed(uri: string, told: Change): void {
    const offer = this.#offer;
    if (offer?.uri !== uri) {
      return;
    }
    const change = from(offer.offset, told);
    if (change.offset === offer.offset && change.text === offer.text) {
      this.#forget(); // the whole of it: `accepted` follows, unless it was typed
      return;
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
    this.#forget();
    this.tell({ event: "rejected" });
  }

  #forget(): void {
    this.#offer = undefined;
    this.#told = undefined;
  }
}

/** Whether an offer is what is left of another one. */
function isRest(offer: Offer, whole: Offer): boolean {
  const isSameEnd = offer.offset + offer.text.length === whole.offset + whole.text.length;
  return offer.uri === whole.uri && isSameEnd && whole.text.endsWith(offer.text);
}

/** A change without what it writes again before `offset`: VS Code replaces all since its offer began. */
function from(offset: number, change: Change): Change {
  const again = offset - change.offset;
  return again > 0 && again <= change.removed && again < change.text.length
    ? { offset, removed: change.removed - again, text: change.text.slice(again) }
    : change;
}
