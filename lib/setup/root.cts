/** Folder of this file: CommonJS in every build, because only `__dirname` means the same in both module systems. */
const setupFolder: string = __dirname
// One default value, because Node 20.9 sees no named exports in a .cts file that tsx compiles.
export = setupFolder
