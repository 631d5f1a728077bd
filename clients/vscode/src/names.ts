/** Names for people. */

/** A model by the end of its path: llama.cpp and others name a model by the file it is in. */
export function modelName(id: string): string {
  const isPath = /^([/~]|[A-Za-z]:[\\/])/.test(id) || id.endsWith(".gguf");
  if (!isPath) {
    return id;
  }
  const parts = id.split(/[\\/]/).filter((part) => part !== "");
  return parts.at(-1)?.replace(/\.gguf$/, "") || id;
}
