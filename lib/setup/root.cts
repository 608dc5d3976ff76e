/** Folder of this file: CommonJS in every build, because only `__dirname` means the same in both module systems. */
export const setupFolder: string = __dirname
