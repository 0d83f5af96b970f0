/** The help of all commands. The bundle of the command line has the value of this module in its place. */
import { pages as pagesOf } from "./help.js"
import { root } from "./main.js"

export const pages = pagesOf(root)
