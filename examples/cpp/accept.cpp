// An exact Markov chain of |m| from the draws of a pool `.bin`, with random numbers and an accept step of its own.
//
//     latticediff propose phi4-A-L16 --n 10000 --out pool.bin
//     g++ -O2 -std=c++17 accept.cpp -o accept && ./accept pool.bin 1
//
// The header is lines of a name, a blank and a value up to `end`; records of S, log_q, phi (C order), float64,
// little-endian, begin at byte `header_bytes`. Every draw is used once: the number of used ones is kept in the header.
// `accept_hdf5.cpp` does the same with a pool `.h5`.

#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "chain.hpp"

int main(int argc, char **argv) {
    if (argc != 3) refuse("expected POOL.bin SEED");
    const std::string path = argv[1];
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    if (!file) refuse(path + " cannot be opened for reading and writing");

    std::map<std::string, std::string> header;
    std::streamoff consumed_at = -1;
    for (std::string line; std::getline(file, line) && line != "end";) {
        const auto blank = line.find(' ');
        if (blank == std::string::npos) refuse(path + " is no pool");
        header[line.substr(0, blank)] = line.substr(blank + 1);
        if (line.rfind("consumed ", 0) == 0)
            consumed_at = static_cast<std::streamoff>(file.tellg()) - 1 - 20;  // twenty digits before the line's end
    }
    if (header["latticediff-pool"] != "1" || header["dtype"] != "<f8" || consumed_at < 0)
        refuse(path + " is no pool of version 1 in little-endian float64");
    const auto n = std::stoull(header["n"]), used = std::stoull(header["consumed"]);
    const auto start = std::stoull(header["header_bytes"]);
    if (used != 0) refuse(path + ": " + std::to_string(used) + " of its draws have been used; propose others");

    std::size_t volume = 1;
    std::istringstream extents(header["shape"]);
    for (std::size_t extent; extents >> extent;) volume *= extent;

    // on disk before the first draw is used: a draw may be lost, and never counts twice
    char digits[21];
    std::snprintf(digits, sizeof digits, "%020llu", n);
    file.clear();
    file.seekp(consumed_at).write(digits, 20).flush();
    if (!file) refuse(path + " cannot be marked as used");

    Chain chain(volume, std::stoull(argv[2]));
    std::vector<double> record(2 + volume);
    file.seekg(static_cast<std::streamoff>(start));
    for (unsigned long long i = 0; i < n; ++i) {
        if (!file.read(reinterpret_cast<char *>(record.data()), static_cast<std::streamsize>(8 * record.size())))
            refuse(path + " is truncated");
        chain.offer(record[0], record[1], record.data() + 2);
    }
    chain.print();
}
