/** Names for people. */

/** A model by the end of its path: llama.cpp and others name a model by the file it is in. */
export function modelName(id: string): string {
  return /^([/~]|[A-Za-z]:[\\/])/.test(id) || id.endsWith(".gguf") ? (id.replace(/[\\/]+$/, "").split(/[\\/]/).at(-1) ?? id).replace(/\.gguf$/, "") : id;
}
