import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist/**", "**/*.gen.ts", "**/*.mjs", "**/*.mts"] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { project: ["./test/tsconfig.json"], tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/no-unnecessary-condition": ["error", { allowConstantLoopConditions: true }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "no-console": "error",
    },
  },
  { files: ["test/**"], rules: { "no-console": "off", "@typescript-eslint/no-non-null-assertion": "off" } },
);
