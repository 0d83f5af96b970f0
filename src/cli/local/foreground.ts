/** Starts `aicortex start --foreground` from flags that are read already. */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { runProgram } from "../program.js"
import { type Flags, inForeground } from "./start.js"

export const start = (flags: Flags): void =>
  runProgram(Effect.provide(inForeground(flags), Layer.merge(NodeFileSystem.layer, NodePath.layer)), () => ({
    path: ["start"],
    flags: new Map(),
    file: ""
  }))
