// A Firestore protocol server on a free port of this machine, for tests. It prints the port as one
// line of JSON and ends when its standard input ends, so that it never outlives whoever started it.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { ServerCredentials } = require("@grpc/grpc-js");
const {
  FirestoreServer,
  FirestoreState,
  FirestoreStateCollection,
  FirestoreStateDocument,
} = require("@firestore-emulator/server");
const { setAutoFreeze } = require("immer");

// The package freezes all that it stores and copies a collection for each document that joins it,
// so that a few thousand documents take minutes. These do the same without.
setAutoFreeze(false);
FirestoreStateCollection.prototype.getDocument = function (name) {
  this.documents[name] ??= new FirestoreStateDocument(
    this.emitter,
    this.database,
    this,
    name,
    {},
    {},
  );
  return this.documents[name];
};

// The package merges a document that is written without a mask into the one that is there, and ignores
// preconditions on the time of the last change. These do what Firestore does.
const { writeV1Document } = FirestoreState.prototype;
FirestoreState.prototype.writeV1Document = function (date, write) {
  if (write.has_update) {
    const document = this.getDocument(write.update.name);
    if (write.has_current_document && write.current_document.has_update_time) {
      const { seconds, nanos } = write.current_document.update_time;
      const expected = seconds * 1000 + nanos / 1e6;
      const exists = document.metadata.hasExist;
      const matches = exists && document.metadata.updatedAt.getTime() === expected;
      write.current_document.exists = matches || !exists; // the opposite of what is there: rejected
    }
    const condition = write.has_current_document && write.current_document;
    const accepted =
      !condition || !condition.has_exists || condition.exists === document.metadata.hasExist;
    const whole = !write.has_update_mask && write.update_transforms.length === 0;
    if (accepted && whole) document.fields = {};
  }
  return writeV1Document.call(this, date, write);
};

const { server } = new FirestoreServer();
// The package takes messages of 4 MiB at most, Firestore takes 10 MiB.
server.options = { ...server.options, "grpc.max_receive_message_length": 10 * 1024 * 1024 };
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(JSON.stringify({ port }));
});

process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
