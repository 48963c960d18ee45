// Paths are from the root of the project: tools/sdks/generate runs there.

export default {
  input: { path: `${process.cwd()}/openapi/headcount.json` }, // whole: a/b would be a name at some registry
  output: {
    path: `${process.cwd()}/target/sdks/typescript`,
    importFileExtension: ".js", // so that it also runs without a bundler
  },
  plugins: ["@hey-api/client-fetch", "@hey-api/sdk", "@hey-api/typescript"],
};
