// Package watch gives snapshots of directories as they change.
//
// People save files in many ways: an editor renames a new file over the old
// one, or truncates and writes, and leaves backups; git and rsync touch
// twenty files; Kubernetes swaps one symbolic link; somebody deletes the
// directory and makes it anew. So a directory is watched, never a file (a
// watch on a file is blind after the first rename over it), and so is the
// directory above. Events only say that it is time to look: when they have
// been quiet for a moment the whole tree is read, and a snapshot whose hash
// is new is handed over. A rescan every 30 seconds is the net below, for
// network file systems and for what symbolic links hide.
//
// Reading never blocks and never fails as a whole: a FIFO, a device, a huge
// or unreadable file is an entry with an error, and the receiver decides what
// that means. The package knows nothing of Lua, lists or certificates.
package watch
