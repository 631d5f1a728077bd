import { expect, it } from "vitest";
import { modelName } from "../../src/names.js";

it.each([
  ["qwen2.5-coder:1.5b", "qwen2.5-coder:1.5b"],
  ["Qwen/Qwen2.5-Coder-7B", "Qwen/Qwen2.5-Coder-7B"],
  ["/models/Qwen/Qwen2.5-Coder-7B", "Qwen2.5-Coder-7B"],
  ["/models/Qwen2.5-Coder-7B/", "Qwen2.5-Coder-7B"],
  ["~/models/tiny.gguf", "tiny"],
  ["models/tiny.gguf", "tiny"],
  ["tiny.gguf", "tiny"],
  ["C:\\models\\tiny.gguf", "tiny"],
  ["C:/models/tiny.gguf", "tiny"],
])("the model %s is called %s", (id, expected) => {
  expect(modelName(id)).toBe(expected);
});
