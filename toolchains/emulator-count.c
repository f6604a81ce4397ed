/* A QEMU plugin that counts the instructions of an emulated program: plugin API 1, QEMU 4.2 to 8.2, 64-bit hosts.

   -plugin count.so,into=NAME. Whenever the program passes 0x70617265 ("pare") as the first argument of a system call,
   the count so far is appended to NAME as a line. close(0x70617265) does nothing else, on any machine.

   One counter for all threads, without locks: exact for a program that computes on one. The few declarations that are
   needed stand here, since tcc comes without the C library's headers; they are those of qemu-plugin.h. */

typedef unsigned long uint64_t;
typedef long int64_t;
typedef unsigned long size_t;
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(
    struct qemu_plugin_tb *block, enum qemu_plugin_op op, void *counter, uint64_t step);
extern void qemu_plugin_register_vcpu_syscall_cb(
    qemu_plugin_id_t id,
    void (*called)(qemu_plugin_id_t, unsigned int, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                   uint64_t, uint64_t, uint64_t));

extern int open(const char *path, int flags, ...);
extern int dprintf(int file, const char *format, ...);
extern int strncmp(const char *one, const char *other, size_t length);

#define MARK 0x70617265u
#define O_WRONLY_CREAT_APPEND (01 | 0100 | 02000)

int qemu_plugin_version = 1;
static uint64_t executed;
static int file = -1;

static void count_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(
        block, QEMU_PLUGIN_INLINE_ADD_U64, &executed, qemu_plugin_tb_n_insns(block));
}

static void tell_if_marked(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t first, uint64_t second,
                           uint64_t third, uint64_t fourth, uint64_t fifth, uint64_t sixth, uint64_t seventh,
                           uint64_t eighth)
{
    if ((unsigned int)first == MARK)
        dprintf(file, "%lu\n", executed);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int arguments, char **argument)
{
    if (arguments != 1 || strncmp(argument[0], "into=", 5) != 0)
        return -1;
    file = open(argument[0] + 5, O_WRONLY_CREAT_APPEND, 0600);
    if (file < 0)
        return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, count_block);
    qemu_plugin_register_vcpu_syscall_cb(id, tell_if_marked);
    return 0;
}
