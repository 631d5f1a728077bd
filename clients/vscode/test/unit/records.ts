/** Records of the protocol, with what a test does not care about filled in. */

import type { ModelInfo, ProviderCapabilities, ProviderInfo } from "../../src/protocol.gen.js";

/** A provider that can do nothing but what is said. */
export function provider(said: Partial<ProviderInfo> = {}, can: Partial<ProviderCapabilities> = {}): ProviderInfo {
  return {
    name: "local",
    kind: "local",
    baseUrl: "http://localhost:11434",
    backend: "Ollama",
    streamingFormat: "ndjson",
    isDefault: false,
    capabilities: {
      listModels: true,
      pullModels: false,
      deleteModels: false,
      loadModels: false,
      unloadModels: false,
      tools: false,
      images: false,
      responseFormats: [],
      ...can,
    },
    ...said,
  };
}

/** A model of which everything is told. */
export const TALKER: ModelInfo = {
  id: "talker:1b",
  contextLength: 4096,
  maxContextLength: 32768,
  sizeBytes: 1_340_000_000,
  parameterSize: "1.2B",
  quantization: "Q4_K_M",
  capabilities: ["completion", "tools"],
  loaded: true,
};
