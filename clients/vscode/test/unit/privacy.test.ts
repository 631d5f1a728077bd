import { describe, expect, it } from "vitest";
import { partsOf } from "../../src/privacy.js";

const DIFF = `diff --git a/a.txt b/a.txt
new file mode 100644
--- /dev/null
+++ b/a.txt
@@ -0,0 +1,2 @@
+one
+diff --git a/x b/x
diff --git "a/with space" "b/with space"
--- a/with space
+++ b/with space
@@ -1 +1 @@
-old
+new
`;

describe("a diff", () => {
  it("is taken apart file by file, and is the same put together", () => {
    expect(partsOf(DIFF).map(({ path }) => path)).toEqual(["a.txt", "with space"]);
    expect(partsOf(DIFF).map(({ text }) => text).join("")).toBe(DIFF);
    expect(partsOf("")).toEqual([]);
  });
});
